"""`tierwise demo`: a day of a fleet, with no key and no network, and where its money goes."""
