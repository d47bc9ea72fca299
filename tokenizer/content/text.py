"""TF-IDF vectors of text, reduced by truncated SVD, and the rule for what counts as an item's text."""

import re
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from scipy import sparse

from tokenizer.common.vectors import principal_directions
from tokenizer.content.fitted_state import fitted_array, fitted_strings, strings_to_array
from tokenizer.errors import TokenizerError

# a cell with one of these words, in any case, counts as empty
MISSING_WORDS = ["", "unknown", "nan", "none", "null", "n/a"]
MAX_TERMS = 200_000
MIN_ITEMS_FOR_RARE_TERMS = 100  # in a smaller catalogue, terms of a single item are kept as well

# Han, kana, Hangul and the full-width forms: these scripts have no spaces between words, or attach particles to them
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]")
_LETTER = re.compile(r"[^\W\d_]")


def item_texts(items: pl.DataFrame, columns: list[str]) -> list[str]:
    """The text of each row: its columns joined by spaces. Cells such as "unknown" count as empty."""
    cells = []
    for name in columns:
        if items[name].dtype.is_nested():
            raise TokenizerError(
                f"items: column {name!r} holds {items[name].dtype}; a text column must hold one text per row."
            )
        text = pl.col(name).cast(pl.String).str.strip_chars()
        cells.append(pl.when(text.str.to_lowercase().is_in(MISSING_WORDS)).then(None).otherwise(text).alias(name))
    return items.select(pl.concat_str(cells, separator=" ", ignore_nulls=True).fill_null("")).to_series().to_list()


def mostly_cjk(texts: list[str]) -> bool:
    """Whether more than half of the letters of a sample of the texts are Chinese, Japanese or Korean."""
    sample = " ".join(texts[:: max(1, len(texts) // 2000)])
    return 2 * len(_CJK.findall(sample)) > len(_LETTER.findall(sample))


class TfidfBlock:
    """Text columns as one block: sublinear TF-IDF, rows of length one, reduced by truncated SVD.

    Terms are words and pairs of words. Where most letters are Chinese, Japanese or Korean, they are characters and pairs of
    characters. `encode` ignores terms that `fit` did not see.
    """

    def __init__(self, columns: list[str], dimensions: int, seed: int) -> None:
        self.columns, self.dimensions, self.seed = columns, dimensions, seed

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn terms, their weights and the directions of the SVD; return the vectors of these rows, float32 [N,W].

        Raises TokenizerError naming the columns when no text holds a usable term.
        """
        texts = item_texts(items, self.columns)
        self.by_character = mostly_cjk(texts)
        rare = 2 if len(texts) >= MIN_ITEMS_FOR_RARE_TERMS else 1
        matrix_NF = self._learn_terms(texts, rare)
        self.directions_FW = principal_directions(matrix_NF, self.dimensions, self.seed)
        return np.asarray(matrix_NF @ self.directions_FW, dtype=np.float32)

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Encode these rows of a table with the same columns, float32 [M,W]; a row without a known term is zero."""
        vectorizer = self._vectorizer(vocabulary=self.terms)
        vectorizer.idf_ = self.idf_F
        matrix_NF = vectorizer.transform(item_texts(items.select(self.columns)[rows], self.columns))
        return np.asarray(matrix_NF @ self.directions_FW, dtype=np.float32)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted arrays by name."""
        return {
            "by_character": np.asarray([self.by_character], dtype=np.uint8),
            "terms": strings_to_array(self.terms),
            "idf": self.idf_F,
            "directions": self.directions_FW,
        }

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        """Restore the arrays of `state_dict`; TokenizerError names one that is missing or has a wrong shape."""
        self.by_character = bool(fitted_array(state, "by_character", 1).any())
        self.terms = fitted_strings(state, "terms")
        self.idf_F, self.directions_FW = fitted_array(state, "idf", 1), fitted_array(state, "directions", 2)
        if not len(self.terms) == len(self.idf_F) == len(self.directions_FW):
            raise TokenizerError(
                "fitted content encoder: 'terms', 'idf' and 'directions' differ in length; tokenize again."
            )
        return self

    def _vectorizer(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        grams = {"analyzer": "char", "ngram_range": (1, 2)} if self.by_character else {"ngram_range": (1, 2)}
        return TfidfVectorizer(**grams, sublinear_tf=True, dtype=np.float32, **settings)

    def _learn_terms(self, texts: list[str], rare: int) -> sparse.csr_matrix:
        for least_items in sorted({rare, 1}, reverse=True):
            vectorizer = self._vectorizer(min_df=least_items, max_features=MAX_TERMS)
            try:
                matrix_NF = sparse.csr_matrix(vectorizer.fit_transform(texts))
            except ValueError:  # scikit-learn's "empty vocabulary": there is no term, or every term is too rare
                continue
            self.terms = [str(term) for term in vectorizer.get_feature_names_out()]
            self.idf_F = np.asarray(vectorizer.idf_, dtype=np.float32)
            return matrix_NF
        raise TokenizerError(
            "items: the text of every row is empty or holds no word of two letters "
            f"(columns: {', '.join(self.columns)}); name other columns, or no text column."
        )
