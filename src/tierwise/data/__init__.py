"""Data files of the package: the dated prices."""
