"""A report: what finished runs have in common and in which figures they differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from digitnet.analysis.runs import FinishedRun, find_group, group_runs
from digitnet.analysis.statistics import MIN_SEEDS
from digitnet.analysis.summary import SPLIT_NAMES, Comparison, GroupSummary, compare, summarize


@dataclass(frozen=True)
class Report:
    """Everything that a report states."""

    split: str
    """The split on which the groups are compared, "val" or "test"."""
    summaries: list[GroupSummary]
    """The groups, the baseline first."""
    comparisons: list[Comparison]
    """Each other group against the baseline."""
    notes: list[str]
    """What the reader must know about the runs, one sentence each."""

    @property
    def title(self) -> str:
        """What is compared on which images."""
        first = self.summaries[0]
        images = f"{first.images:,} " if first.images else ""
        return f"{first.group.runs[0].data_set}, {images}{SPLIT_NAMES[self.split]} images"

    def to_json(self) -> str:
        """Return the report as the text of a JSON file, with figures at full precision."""
        content = {
            "digitnet": version("digitnet"),
            "data_set": self.summaries[0].group.runs[0].data_set,
            "split": self.split,
            "groups": [summary.to_json() for summary in self.summaries],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "notes": self.notes,
        }
        return json.dumps(content, indent=1, default=str) + "\n"


def build_report(runs: Sequence[FinishedRun], split: str, baseline: str | None, notes: Sequence[str]) -> Report:
    """Group runs, and compare each group with the baseline.

    Args:
        runs: The runs, at least one, each with its accuracy on the split.
        split: The split, "val" or "test".
        baseline: Name of the baseline, or a part of it; None for the first group.
        notes: What is known about the runs already.

    Returns:
        The report.

    Raises:
        UsageError: If the runs are of different data sets, or no group or several groups match the baseline.
    """
    groups, repeated = group_runs(runs)
    first = find_group(groups, baseline) if baseline is not None else groups[0]
    groups = [first, *(group for group in groups if group is not first)]
    small = [group for group in groups if len(group.runs) < MIN_SEEDS]
    few = [f"n < {MIN_SEEDS} in {len(small)} of {len(groups)} groups: one or two runs give no interval over seeds."]
    comparisons = [compare(first, group, split) for group in groups[1:]]
    missing = [
        f"{each.other.name} and {each.baseline.name} are not compared image by image: their "
        f"{SPLIT_NAMES[split]} images differ, or predictions are not on file."
        for each in comparisons
        if each.test is None
    ]
    summaries = [summarize(group, split) for group in groups]
    return Report(split, summaries, comparisons, [*notes, *repeated, *(few if small else []), *missing])
