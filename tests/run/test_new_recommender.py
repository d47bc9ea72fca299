"""A trained recommender joins every run with a file, a line in the registry, a field in the config and lines in demo.yaml.

Run, results, report and terminal table need no edit: the test adds one to a copy of the project and runs the copy.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, TINY, onerec, results_of

FILE = '''"""GRU4Rec with a full softmax: a recurrent network over item embeddings (arXiv 1511.06939)."""

from torch import Tensor, nn

from onerec.recommenders.recommender import TrainingData
from onerec.recommenders.sasrec import SASRec, SASRecConfig, SASRecRecommender, SASRecSection


class GRUSection(SASRecSection):
    """The GRU baseline: its size and its own training settings."""


class GRU(SASRec):
    """A GRU whose states score the next item by the embeddings that it reads."""

    def __init__(self, config: SASRecConfig, item_count: int) -> None:
        super().__init__(config, item_count)
        self.network = nn.GRU(config.width, config.width, batch_first=True)

    def states(self, items_BT: Tensor) -> Tensor:
        """Hidden states `[B, T, D]`."""
        states: Tensor = self.network(self.items(items_BT))[0]
        return states


class GRURecommender(SASRecRecommender):
    """Rank the whole catalogue with a trained GRU."""

    name, label = "gru", "GRU4Rec"
    description = "recurrent network over items, every item scored"

    @staticmethod
    def build(section: SASRecSection, data: TrainingData) -> GRU:
        return GRU(section.model, data.item_count)
'''
# By file: the line above the new ones, and these.
LINES = {
    "onerec/recommenders/registry.py": {'    "sasrec": "SASRecRecommender",': '    "gru": "GRURecommender",'},
    "onerec/run/config.py": {
        "from onerec.model.generator_config import GeneratorConfig": (
            "from onerec.recommenders.gru import GRUSection"  # what the field is made of
        ),
        "    sasrec: SASRecSection | None = SASRecSection()": "    gru: GRUSection | None = None",
    },
    "configs/demo.yaml": {
        "baselines:                     # models beside the generator, on the same data": (
            "  gru:                         # a recurrent network over items; null: left out\n"
            "    model: {width: 16}         # its sizes\n"
            "    train: {epochs: 3, batch_size: 16, learning_rate: 0.03, warmup_steps: 5}  # keys as under train"
        ),
    },
}
PARTS = ("onerec", "tokenizer", "rl", "configs")
SETTINGS = ("name=copy", "dataset.fetch=null", "after_training=[]", "baselines.sasrec=null", *TINY[:-2])


def files_of(project: Path) -> Iterator[tuple[str, str]]:
    """Every file of the packages and configs, with its text."""
    for part in PARTS:
        for path in sorted((project / part).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield str(path.relative_to(project)), path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one recommender more."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "onerec/recommenders/gru.py").write_text(FILE, encoding="utf-8")
    for name, added in LINES.items():
        text = (copy / name).read_text(encoding="utf-8")
        for above, lines in added.items():
            assert text.count(f"{above}\n") == 1, above
            text = text.replace(f"{above}\n", f"{above}\n{lines}\n")
        (copy / name).write_text(text, encoding="utf-8")
    schema = onerec("config", "--schema", cwd=copy, PYTHONPATH=str(copy))
    assert schema.returncode == 0, schema.stderr
    assert '"gru": {"anyOf"' in schema.stdout and "a recurrent network" in schema.stdout
    (copy / "configs/schema.json").write_text(schema.stdout, encoding="utf-8")
    return copy


def test_a_new_recommender_is_trained_measured_and_shown(project: Path, chain_dataset: Path) -> None:
    before = dict(files_of(project))
    command = ["run", "configs/demo.yaml", *SETTINGS, f"dataset.folder={chain_dataset}"]
    done = onerec(*command, cwd=project, PYTHONPATH=str(project))
    assert done.returncode == 0, done.stderr
    run = project / "runs" / "copy"
    assert (run / "baselines/gru/best.safetensors").is_file()

    results = results_of(run)
    models = results["models"]
    assert list(models) == ["onerec", "onerec_selection", "gru", "item_knn", "content_knn", "popularity"]
    gru = models["gru"]
    assert (gru["label"], gru["description"]) == ("GRU4Rec", "recurrent network over items, every item scored")
    assert gru["own"] is False and gru["parameters"] > 60 * 16 and gru["train_seconds"] > 0
    value = gru["test"]["recall@10"]["value"]
    assert value > models["popularity"]["test"]["recall@10"]["value"] + 0.2, "it has learnt the order of the log"
    for own in ("onerec", "onerec_selection"):
        difference = results["paired"][f"{own} - gru"]["recall@10"]["value"]
        assert difference == pytest.approx(models[own]["test"]["recall@10"]["value"] - value)
    assert all(len(example["recommendations"]["gru"]) == 10 for example in results["examples"])

    assert "GRU4Rec" in (run / "report.html").read_text(encoding="utf-8")
    (row,) = (line for line in done.stdout.splitlines() if line.split()[:1] == ["GRU4Rec"])
    assert f"{value:.4f}".removeprefix("0") in row
    assert dict(files_of(project)) == before
