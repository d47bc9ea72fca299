"""The base of all settings that a run config can hold, and the limits of their values."""

from typing import Annotated, Any, get_args

from annotated_types import Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

LARGEST_COUNT = 10**9  # of whole numbers whose key has no limit of its own; loops over more would not end
LARGEST, SMALLEST = 1e12, 1e-12  # of other numbers; beyond these, products and quotients leave the range of float32

# Numbers that arrays are sized by. Above its limit, a single array would not fit into memory.
Width = Annotated[int, Field(gt=0, le=65_536)]
Layers = Annotated[int, Field(ge=0, le=1_000)]
Length = Annotated[int, Field(gt=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every random number generator takes, scikit-learn's too


class Settings(BaseModel):
    """Typed, immutable settings. Unknown keys are refused, and so are numbers that are infinite, NaN or beyond all use."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, no, on and off as truth values. None of them is a number, though Python takes them for 1 and 0."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if kinds & {int, float} and bool not in kinds and any(isinstance(one, bool) for one in _each(value)):
            raise PydanticCustomError("number", "must be a number")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_absurd(cls, value: Any, info: ValidationInfo) -> Any:
        limited = any(isinstance(limit, Le | Lt) for limit in cls.model_fields[info.field_name or ""].metadata)
        for number in _each(value):
            if type(number) is int and abs(number) > LARGEST_COUNT and not limited:
                raise PydanticCustomError("range", f"must lie between -{LARGEST_COUNT:,} and {LARGEST_COUNT:,}")
            if isinstance(number, float) and number and not SMALLEST <= abs(number) <= LARGEST:
                raise PydanticCustomError("range", f"must be 0, or of a size between {SMALLEST:g} and {LARGEST:g}")
        return value


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation such as `list[int] | None` is made of."""
    inner = [kind for one in get_args(annotation) for kind in _kinds(one)]
    return set(inner) if inner else {annotation}
