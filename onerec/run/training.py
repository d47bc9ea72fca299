"""Training a network as a stage of a run. Validation by lists chooses the weights and stops early; a killed stage resumes."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from onerec.data.windows import Windows
from onerec.evaluate.ranking import quick_figures
from onerec.recommenders.recommender import Recommender
from onerec.run.run import Facts, Run
from onerec.train.trainer import TrainConfig, Trainer

VALIDATED_LENGTH = 10


def validation_settings(run: Run) -> Facts:
    """The settings of the validations during training, which choose the weights."""
    config = run.trained_with or run.config
    evaluate = config.evaluate.model_dump(include={"validation_users", "validation_beam_width"})
    return {**evaluate, "exclude_seen": config.recommend.exclude_seen}


def train_recommender(
    run: Run,
    folder: Path,
    model: nn.Module,
    label: str,
    config: TrainConfig,
    windows: Windows,
    recommender: Callable[[nn.Module], Recommender],
) -> tuple[nn.Module, Facts]:
    """Train a network until its lists for a sample of validation users stop improving. A killed training resumes.

    Args:
        run: gives the validation users.
        folder: for the curves, the checkpoint and the best weights.
        model: the network, on any device.
        label: shown by the progress bar.
        config: of this training.
        windows: to train on.
        recommender: wraps the network to make lists.

    Returns:
        the network with its best weights, on the CPU and in eval mode, and facts about its training.
    """
    sample = run.requests("valid", run.config.evaluate.validation_users)
    exclude_seen = run.config.recommend.exclude_seen

    def validate(trained: nn.Module) -> dict[str, float]:
        lists = recommender(trained).recommend(sample, VALIDATED_LENGTH, exclude_seen=exclude_seen)
        return quick_figures(lists.items_CK, sample)

    seed, project = run.config.seed, run.wandb_project
    trainer = Trainer(model, windows, config, folder, validate, seed=seed, label=label, wandb_project=project)
    position = trainer.run()
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_seconds": position.seconds,
        "steps": position.step,
        "best_step": position.best_step,
        "best_epoch": position.best_step / trainer.steps_per_epoch,
    }
    return trainer.bare_model.cpu().eval(), facts
