"""What a fit leaves besides its results: summary, report and pictures."""

from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.data.datasets import EpisodeDataset
from mbrl_bilevel.evaluation import save_figure
from mbrl_bilevel.experiments.fit.jobs import Finished
from mbrl_bilevel.experiments.fit.plots import draw_figures
from mbrl_bilevel.experiments.fit.report import make_report
from mbrl_bilevel.experiments.fit.resume import identity
from mbrl_bilevel.runs import RunDir, versions, write_text_atomic
from mbrl_bilevel.runs.metrics import log_pictures

REPORT_FILE = "report.md"


def write_summary(
    config: FitConfig, dataset: EpisodeDataset, run: RunDir, finished: Finished, status: str
) -> None:
    """Write summary.json.

    Args:
        config: Of the fit.
        dataset: That it is on.
        run: Its folder.
        finished: So far.
        status: `"running"`, `"completed"`, `"interrupted"` or `"failed"`.
    """
    run.write_summary(
        {
            "status": status,
            **identity(config, dataset),
            "env_id": dataset.env_id,
            "num_results": len(finished.rows),
            "versions": versions(),
        }
    )


def write_report(
    config: FitConfig, dataset: EpisodeDataset, run: RunDir, finished: Finished
) -> str:
    """Write report and pictures of what is finished; return the report, empty without any."""
    if not finished.rows:
        return ""
    report = make_report(finished.rows, dataset.name, config)
    write_text_atomic(run.path / REPORT_FILE, report)
    write_pictures(run, finished)
    return report


def read_report(run: RunDir) -> str:
    """Return the report, empty without any."""
    path = run.path / REPORT_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def write_pictures(run: RunDir, finished: Finished) -> None:
    """Draw what is finished into `plots/`: PNG files, and the same for TensorBoard."""
    pictures = {}
    for name, figure in draw_figures(finished.rows, finished.curves, finished.fans).items():
        pictures[f"plots/{name}"] = path = run.plots / f"{name}.png"
        save_figure(figure, path)
    # A step for each part of a fit that was interrupted.
    log_pictures(run.path, len(finished.rows), pictures)
