"""A trained recommender joins every run with a file, a line in the registry, a field in the config and lines in demo.yaml.

Run, results, report and terminal table need no edit: the test adds one to a copy of the project and runs the copy.
"""

import shutil
from collections.abc import Iterator
from difflib import ndiff
from pathlib import Path

import pytest
from command_line import ROOT, TINY, onerec, results_of

FILE = '''"""GRU4Rec with a full softmax: a recurrent network over item embeddings (arXiv 1511.06939)."""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.data.windows import Batch, Windows, every_position_windows
from onerec.recommenders.recommender import TrainingData
from onerec.train.trainer import TrainConfig


class GRUSection(BaseModel):
    """The GRU baseline: its size and its own training settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(64, gt=0)
    history_length: int = Field(50, gt=0)
    train: TrainConfig = TrainConfig()


class GRU(nn.Module):
    """A GRU whose state scores the next item by the embeddings that it reads."""

    def __init__(self, section: GRUSection, item_count: int) -> None:
        super().__init__()
        self.history_length = section.history_length
        self.items = nn.Embedding(item_count, section.width)
        self.network = nn.GRU(section.width, section.width, batch_first=True)

    def logits(self, items_BT: Tensor) -> Tensor:
        """Scores of all items after every position, `[B, T, N]`."""
        logits: Tensor = self.network(self.items(items_BT))[0] @ self.items.weight.T
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the counted targets in nats, summed, `[1]`."""
        logits_XN = self.logits(batch.items_BT)[batch.counted_BT]
        return functional.cross_entropy(logits_XN, batch.targets_BT[batch.counted_BT], reduction="sum")[None]


class GRURecommender:
    """Rank the whole catalogue with a trained GRU."""

    name, label = "gru", "GRU4Rec"
    description = "recurrent network over items, every item scored"
    reads_vectors = False

    def __init__(self, model: nn.Module, batch_size: int = 256) -> None:
        assert isinstance(model, GRU)
        self.model, self.batch_size = model, batch_size

    @staticmethod
    def width(section: GRUSection) -> int:
        return section.width

    @staticmethod
    def build(section: GRUSection, data: TrainingData) -> GRU:
        return GRU(section, data.item_count)

    @staticmethod
    def windows(section: GRUSection, data: TrainingData) -> Windows:
        return every_position_windows(data.item_index, data.offsets, section.history_length)

    @torch.inference_mode()
    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k best items of each request; scores are logits."""
        model, lists = self.model.eval(), Lists.empty(len(requests), k)
        device = model.items.weight.device
        for rows, batch in requests.batches(model.history_length, 0, self.batch_size):
            batch = batch.to(device)
            scores_BN = model.logits(batch.items_BT)[torch.arange(len(rows), device=device), batch.lengths_B - 1]
            if exclude_seen:
                for row, seen_S in enumerate(requests.seen(rows).to(device)):
                    scores_BN[row, seen_S[seen_S >= 0]] = -torch.inf
            best = scores_BN.topk(min(k, scores_BN.shape[1]), dim=1)
            found = best.indices.masked_fill(best.values == -torch.inf, -1)
            lists.items_CK[rows, : found.shape[1]] = found.cpu().numpy()
            lists.scores_CK[rows, : found.shape[1]] = best.values.cpu().numpy()
        return lists
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
            "    width: 16                  # of its state, in features\n"
            "    history_length: 50         # most recent items that it reads\n"
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


def test_nothing_else_of_the_project_was_changed(project: Path) -> None:
    before, after = dict(files_of(ROOT)), dict(files_of(project))
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {*LINES, "onerec/recommenders/gru.py", "configs/schema.json"}
    edits = {
        name: [line for line in ndiff(before[name].splitlines(), after[name].splitlines()) if line[0] in "+-"]
        for name in LINES
    }
    assert edits["onerec/recommenders/registry.py"] == ['+     "gru": "GRURecommender",']
    imported, field = edits["onerec/run/config.py"]
    assert imported.startswith("+ from onerec.recommenders.gru import") and field.startswith("+     gru:")
    assert all(line.startswith("+ ") for line in edits["configs/demo.yaml"])
    assert '"gru": {"anyOf"' in after["configs/schema.json"] and "a recurrent network" in after["configs/schema.json"]
