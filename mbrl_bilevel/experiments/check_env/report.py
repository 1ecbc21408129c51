"""Findings, and the report that they make."""

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mbrl_bilevel.experiments.check_env.faults import FAULTS, Severity

WIDTH = 96
INDENT = " " * 10


@dataclass(frozen=True)
class Finding:
    """Something that was seen.

    Attributes:
        code: A key of `FAULTS`.
        what: What was seen, with numbers.
        severity: That of the code, unless this case is milder.
        meaning: For model-based training.
        advice: What to do.
        episode: Where it was seen first.
        step: Of that episode; 0 is the observation of the reset.
        dimensions: Of the observation, or of the action.
    """

    code: str
    what: str
    severity: Severity
    meaning: str
    advice: str
    episode: int | None = None
    step: int | None = None
    dimensions: tuple[int, ...] = ()


def found(
    code: str,
    what: str,
    *,
    episode: int | None = None,
    step: int | None = None,
    dimensions: tuple[int, ...] = (),
    severity: Severity | None = None,
) -> Finding:
    """Return a finding, with what the catalogue says of its code."""
    fault = FAULTS[code]
    return Finding(
        code,
        what,
        severity or fault.severity,
        fault.meaning,
        fault.advice,
        episode,
        step,
        dimensions,
    )


@dataclass(frozen=True)
class Report:
    """What a check has found.

    Attributes:
        env_id: What was checked.
        facts: What was looked at, as text by name.
        findings: Errors first.
    """

    env_id: str
    facts: Mapping[str, str]
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        order = list(Severity)
        ranked = sorted(self.findings, key=lambda finding: order.index(finding.severity))
        object.__setattr__(self, "findings", tuple(ranked))

    @property
    def codes(self) -> list[str]:
        """The codes of the findings, in their order."""
        return [finding.code for finding in self.findings]

    @property
    def num_errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "env_id": self.env_id,
            "facts": dict(self.facts),
            "num_errors": self.num_errors,
            "findings": [
                {**asdict(finding), "severity": str(finding.severity)} for finding in self.findings
            ],
        }

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        width = max(map(len, self.facts), default=0)
        lines = [self.env_id, *(f"  {name:<{width}}  {text}" for name, text in self.facts.items())]
        for finding in self.findings:
            lines += [
                "",
                f"{finding.severity:<{len(INDENT)}}{finding.code}",
                *_wrapped("seen:  ", finding.what),
                *_wrapped("means: ", finding.meaning),
                *_wrapped("do:    ", finding.advice),
            ]
        return "\n".join([*lines, "", self._summary()])

    def _summary(self) -> str:
        counts = Counter(finding.severity for finding in self.findings)
        if not counts:
            return "nothing found"
        return ", ".join(
            f"{counts[severity]} {severity}{'s' if counts[severity] != 1 else ''}"
            for severity in Severity
        )


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=INDENT + label,
        subsequent_indent=INDENT + " " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
