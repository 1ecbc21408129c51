"""The check of an environment: Gymnasium's checker, and what model-based training asks for.

`check_env(env)` returns a `Report`; `FAULTS` lists everything that can be found, by code.
"""

from mbrl_bilevel.experiments.check_env.faults import FAULTS, Fault, Severity
from mbrl_bilevel.experiments.check_env.report import Finding, Report
from mbrl_bilevel.experiments.check_env.run import check_env

__all__ = ["FAULTS", "Fault", "Finding", "Report", "Severity", "check_env"]
