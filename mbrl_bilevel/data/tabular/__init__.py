"""Classification datasets: from scikit-learn, OpenML or a CSV file."""

from mbrl_bilevel.data.tabular.dataset import TabularDataset
from mbrl_bilevel.data.tabular.load import BUILT_IN, load_tabular
from mbrl_bilevel.data.tabular.split import TabularSplits, split_tabular

__all__ = ["BUILT_IN", "TabularDataset", "TabularSplits", "load_tabular", "split_tabular"]
