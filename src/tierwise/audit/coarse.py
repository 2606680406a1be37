"""Coarse types: task types whose pairs fall into groups of different truth, by what was known of each call before.

Features are kept with each pair: the agent, how long the body is, whether it offers tools. All of them are searched on
every line, and the evidence that is asked for is that much more: where each type is one, any split is proposed with the
stated chance at the most, at one look over all lines.
"""

from collections.abc import Mapping, Sequence

from tierwise.audit.splitting import Split, propose_split
from tierwise.audit.standings import Standing


def splits(standings: Sequence[Standing], *, alpha: float) -> Mapping[str, Split]:
    """Propose to make several types of one, by line.

    Of a line with a pair that nobody could grade nothing is said: which groups have such pairs may be no accident.

    Args:
        standings: of all lines.
        alpha: the chance that this look proposes any split where all types are one.
    """
    able = [one for one in standings if not one.line.undecided and one.line.groups.features]
    found = {
        one.line.line: propose_split(one.line.groups.groupings(), margin=one.margin, alpha=alpha / len(able))
        for one in able
    }
    return {line: split for line, split in found.items() if split is not None}
