"""Tables of features and classes: where they come from, how they are split, what is refused."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from mbrl_bilevel.data.tabular import BUILT_IN, TabularDataset, load_tabular, split_tabular
from mbrl_bilevel.errors import ConfigError, DatasetError

FRACTIONS = [(0.6, 0.2, 0.2), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0)]
SIZES = {"wine": (178, 13, 3), "iris": (150, 4, 3), "breast_cancer": (569, 30, 2)}


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def rows_of(dataset: TabularDataset) -> dict[int, tuple[float, ...]]:
    return {i: tuple(row.tolist()) for i, row in enumerate(dataset.features)}


class TestBuiltIn:
    @pytest.mark.parametrize("name", BUILT_IN)
    def test_is_what_scikit_learn_ships(self, name: str) -> None:
        dataset = load_tabular(name)
        bunch = getattr(datasets, f"load_{name}")()
        assert dataset.features.dtype == torch.float32
        assert dataset.labels.dtype == torch.int64
        np.testing.assert_allclose(dataset.features.numpy(), bunch.data, rtol=1e-6)
        np.testing.assert_array_equal(dataset.labels.numpy(), bunch.target)
        assert dataset.class_names == tuple(str(label) for label in bunch.target_names)
        assert dataset.feature_names == tuple(bunch.feature_names)
        assert dataset.name == name

    @pytest.mark.parametrize("name", SIZES)
    def test_has_its_known_size(self, name: str) -> None:
        dataset = load_tabular(name)
        assert (*dataset.features.shape, dataset.num_classes) == SIZES[name]
        assert len(dataset) == SIZES[name][0]

    def test_has_no_choice_of_target(self) -> None:
        with pytest.raises(ConfigError, match="target='proline': dataset 'wine' has one target"):
            load_tabular("wine", target="proline")


class TestCsv:
    def test_the_last_column_is_the_class(self, tmp_path: Path) -> None:
        dataset = load_tabular(write(tmp_path, "a,b,kind\n1,2.5,tea\n-3,1e2,coffee\n4,5,tea\n"))
        assert dataset.features.tolist() == [[1.0, 2.5], [-3.0, 100.0], [4.0, 5.0]]
        assert dataset.class_names == ("coffee", "tea")
        assert dataset.labels.tolist() == [1, 0, 1]
        assert dataset.feature_names == ("a", "b")

    def test_another_column_may_be(self, tmp_path: Path) -> None:
        path = write(tmp_path, "\ufeffkind,a,b\n10,1,2\n9,3,4\n")
        dataset = load_tabular(str(path), target="kind")
        assert dataset.features.tolist() == [[1.0, 2.0], [3.0, 4.0]]
        # Classes that are numbers are sorted as such.
        assert dataset.class_names == ("9", "10")
        assert dataset.feature_names == ("a", "b")
        with pytest.raises(ConfigError, match=r"has no column 'kin' .* it has kind, a, b"):
            load_tabular(path, target="kin")

    def test_a_file_may_lack_names_and_end_in_anything(self, tmp_path: Path) -> None:
        path = tmp_path / "iris.data"
        path.write_text("5.1,3.5,setosa\n\n7.0,3.2,versicolor\n")
        dataset = load_tabular(path)
        assert dataset.features.shape == (2, 2)
        assert dataset.feature_names == ("0", "1")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty"),
            ("a,b,kind\n", "has 0 rows of 2 features"),
            ("kind\nx\ny\n", "has 2 rows of 0 features"),
            ("a,kind\n1,x\n2,x\n", "has the single class 'x'"),
            ("a,kind\n1,x\nred,y\n", "line 3: feature 'a' is 'red'; features must be numbers"),
            ("a,kind\n1,x\n\nnan,y\n", "line 4: feature 'a' is nan"),
            ("a,kind\n1,x\n,y\n", "line 3: feature 'a' is ''"),
            ("a,kind\n1,x\ninf,y\n", "line 3: feature 'a' is inf"),
            ("a,kind\n1,x\n1e39,y\n", r"line 3: feature 'a' is 1e\+39"),
            ("a,kind\n1,x\n2,\n", "line 3: no class in column 'kind'"),
            ("a,b,kind\n1,2,x\n1,y\n", "line 3: 2 cells, but line 1 has 3"),
        ],
    )
    def test_what_nothing_can_be_learned_from(
        self, text: str, message: str, tmp_path: Path
    ) -> None:
        path = write(tmp_path, text)
        with pytest.raises(DatasetError, match=message) as error:
            load_tabular(path)
        assert f"dataset {str(path)!r}" in str(error.value)

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "table.csv"
        path.write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(DatasetError, match="is damaged or no CSV file"):
            load_tabular(path)

    @pytest.mark.parametrize("name", ["nowhere.csv", "no/where.csv"])
    def test_a_file_that_does_not_exist(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"dataset file '{name}' does not exist"):
            load_tabular(name)


class TestOpenML:
    @pytest.fixture(autouse=True)
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def fetch_openml(**kwargs: Any) -> Any:
            calls.append(kwargs)
            if kwargs["name"] == "iris-2":
                return datasets.load_iris()
            raise URLError("no route to host")

        monkeypatch.setattr(datasets, "fetch_openml", fetch_openml)
        return calls

    def test_any_other_name_is_asked_for_there(self, calls: list[dict[str, Any]]) -> None:
        dataset = load_tabular("iris-2", target="species")
        np.testing.assert_array_equal(dataset.labels.numpy(), datasets.load_iris().target)
        assert dataset.name == "iris-2"
        assert calls[0]["target_column"] == "species"

    def test_names_of_uci_are_translated(self, calls: list[dict[str, Any]]) -> None:
        with pytest.raises(ConfigError):
            load_tabular("credit_default")
        assert calls[0]["name"] == "default-of-credit-card-clients"

    def test_without_a_network_one_message_says_so(self) -> None:
        with pytest.raises(ConfigError) as error:
            load_tabular("wien")
        message = str(error.value)
        assert "dataset 'wien' is neither built in (wine, iris, breast_cancer, digits" in message
        assert "did you mean 'wine'?" in message
        assert "no route to host" in message

    @pytest.mark.parametrize("path", ["some/folder", ""])
    def test_a_path_is_not_asked_for(self, path: str, calls: list[dict[str, Any]]) -> None:
        with pytest.raises(ConfigError, match=f"dataset '{path}' does not exist; allowed: wine"):
            load_tabular(path)
        assert calls == []


class TestSplit:
    @pytest.mark.parametrize("fractions", FRACTIONS)
    @pytest.mark.parametrize("name", ["wine", "digits"])
    def test_parts_are_disjoint_complete_and_stratified(
        self, name: str, fractions: tuple[float, float, float]
    ) -> None:
        dataset = load_tabular(name)
        # Numbered, so that rows are told apart after standardising, too.
        numbered = TabularDataset(
            torch.arange(len(dataset), dtype=torch.float32)[:, None],
            dataset.labels,
            ("number",),
            dataset.class_names,
            name,
        )
        splits = split_tabular(numbered, fractions, seed=3)
        training = splits.training[0].double()
        parts = (splits.training, splits.held_out, splits.test)
        assert splits.num_classes == dataset.num_classes
        numbers = torch.cat([x[:, 0] for x, _ in parts])
        order = numbers.argsort()
        assert len(numbers) == len(dataset)
        # Standardising keeps the distances of 1 between the numbers alike.
        steps = numbers[order].double().diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-2, atol=0.0)
        assert torch.equal(torch.cat([y for _, y in parts])[order], dataset.labels)
        assert abs(float(training.mean())) < 1e-6
        assert float(training.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
        for (_, y), fraction in zip(parts, fractions, strict=True):
            for label in range(dataset.num_classes):
                expected = fraction * int((dataset.labels == label).sum())
                assert abs(int((y == label).sum()) - expected) <= 1.0

    def test_standardisation_is_that_of_the_training_part_alone(self) -> None:
        dataset = load_tabular("digits")
        splits = split_tabular(dataset, seed=1)
        rows = {row: i for i, row in rows_of(dataset).items()}
        assert len(rows) == len(dataset)
        unscaled = split_with_identity(dataset, seed=1)
        scaler = StandardScaler().fit(unscaled[0].double().numpy())
        for (x, _), raw in zip(
            (splits.training, splits.held_out, splits.test), unscaled, strict=True
        ):
            expected = scaler.transform(raw.double().numpy())
            np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)

    def test_a_feature_that_is_constant_in_the_training_part_is_centred(self) -> None:
        features = torch.full((20, 1), 0.1)
        dataset = TabularDataset(features, torch.arange(20) % 2, ("a",), ("x", "y"), "constant")
        assert split_tabular(dataset).training[0].abs().max() <= 1e-8

    def test_the_seed_decides(self) -> None:
        dataset = load_tabular("wine")
        first, again, other = (split_tabular(dataset, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(first.test[0], again.test[0])
        assert torch.equal(first.training[1], again.training[1])
        assert not torch.equal(first.test[0], other.test[0])

    def test_types(self) -> None:
        splits = split_tabular(load_tabular("iris"))
        for x, y in (splits.training, splits.held_out, splits.test):
            assert x.dtype == torch.float32
            assert y.dtype == torch.int64
            assert len(x) == len(y)
        # The file is sorted by class; the parts are not.
        assert len(splits.test[1][:10].unique()) > 1

    def test_a_rare_class_is_in_the_training_part(self) -> None:
        labels = torch.tensor([0] * 30 + [1])
        dataset = TabularDataset(torch.randn(31, 2), labels, ("a", "b"), ("x", "y"), "rare")
        for seed in range(5):
            splits = split_tabular(dataset, (0.2, 0.4, 0.4), seed)
            assert int(splits.training[1].sum()) == 1

    @pytest.mark.parametrize(
        "fractions", [(0.6, 0.2, 0.3), (0.0, 0.5, 0.5), (1.2, -0.2, 0.0), (0.5, 0.5)]
    )
    def test_impossible_fractions(self, fractions: Any) -> None:
        with pytest.raises(ConfigError, match="three numbers of at least 0 that sum to 1"):
            split_tabular(load_tabular("iris"), fractions)

    def test_a_part_that_would_be_empty(self) -> None:
        dataset = TabularDataset(torch.randn(4, 1), torch.arange(4) % 2, ("a",), ("x", "y"), "tiny")
        with pytest.raises(ConfigError, match="the held_out part of dataset 'tiny' would be empty"):
            split_tabular(dataset, (0.8, 0.1, 0.1))


def split_with_identity(dataset: TabularDataset, seed: int) -> list[torch.Tensor]:
    """The parts' features as recorded, found through the positions of numbered rows."""
    numbers = torch.arange(len(dataset), dtype=torch.float32)[:, None]
    numbered = TabularDataset(numbers, dataset.labels, ("n",), dataset.class_names, "numbered")
    splits = split_tabular(numbered, seed=seed)
    parts = (splits.training, splits.held_out, splits.test)
    values = torch.cat([x[:, 0] for x, _ in parts])
    ranks = values.argsort().argsort()
    return [dataset.features[rows] for rows in ranks.split([len(x) for x, _ in parts])]
