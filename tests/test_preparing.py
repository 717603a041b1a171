"""Preparation through the whole exchange: real streams, the job's handler, the shipped app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from sklearn.pipeline import Pipeline

from fedsm.client.handler import AppHandler
from fedsm.client.release import Release
from fedsm.errors import ConfigError, DataError, QuorumLost
from fedsm.events import Journal, read
from fedsm.evidence.asked import Asked
from fedsm.evidence.heads import KeptHead, SiteHeads
from fedsm.learning.logistic import initial_parameters
from fedsm.learning.site_app import tabular_app
from fedsm.learning.sparse_tables import SparseTable
from fedsm.learning.strategies import make_strategy
from fedsm.learning.tables import Table
from fedsm.training import Loop, Outcome, Rounds
from fedsm.training_config import Prepare
from fedsm.transport import once
from tests.transport.world import World

SITES = ("a", "b")
TERMS = Release(frozenset({"num-examples", "loss", "auc", "accuracy"}), 8)


def rows(seed: int, n: int = 60) -> Table:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    x = random.normal(size=(n, 3)) + labels[:, None]
    x[random.random(x.shape) < 0.1] = np.nan
    texts = random.choice(["typical", "none"], size=(n, 1))
    texts[:3] = "rare"
    return Table(("age", "chol", "oldpeak"), x, labels, ("cp",), texts)


def plain(seed: int, n: int = 40, columns: int = 3) -> Table:
    random = np.random.default_rng(seed)
    names = tuple(f"x{i}" for i in range(columns))
    return Table(names, random.normal(size=(n, columns)), np.arange(n) % 2)


class Bench:
    """Two sites with the shipped app, and a loop over them."""

    def __init__(self, directory: Path) -> None:
        self.world = World(SITES)
        self.directory = directory
        self.journal = Journal(directory / "events.jsonl")
        self.seen: dict[str, list[Any]] = {site: [] for site in SITES}

    def handler(self, site: str, table: Any, terms: Release = TERMS) -> AppHandler:
        app = tabular_app(lambda _: table, lambda _: table)

        def seeing(message: Message, context: Any) -> Message:
            config = dict(message.content["config"])
            self.seen[site].append((message.metadata.message_type, config))
            return app(message, context)

        return AppHandler(
            seeing,  # type: ignore[arg-type]
            self.directory,
            run_config={},
            node_config={"smallest-count": terms.smallest, "model": ""},
            release=terms,
        )

    def join(self, *tables: Any, terms: Release = TERMS) -> list[AppHandler]:
        handlers = [self.handler(s, t, terms) for s, t in zip(SITES, tables, strict=True)]
        for site, handler in zip(SITES, handlers, strict=True):
            self.world.join(site, handler)
        self.world.wait(len(SITES))
        return handlers

    def run(
        self,
        prepare: Prepare,
        hook: Callable[[int], None] = lambda _: None,
        rounds: int = 3,
        min_sites: int = 2,
    ) -> Outcome:
        def config(number: int) -> dict[str, Any]:
            hook(number)
            return {}

        return Loop(
            self.world.grid,
            make_strategy("fedavg", {}, min_sites=2, sites=2),
            Rounds(
                rounds=rounds,
                sites=SITES,
                min_sites=min_sites,
                join_deadline=10,
                round_deadline=10,
                seed=0,
                prepare=prepare,
            ),
            self.journal,
            self.directory,
            initial=lambda s: initial_parameters(len(s.inputs), 2),  # type: ignore[union-attr]
            config_fn=config,
        ).run()

    def events(self, kind: str) -> list[Any]:
        return [event.data for event in read(self.journal.path) if event.kind == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.world.close()


def test_all_of_it_from_the_queries_to_the_models_steps(bench: Bench) -> None:
    bench.join(rows(0), rows(1))
    outcome = bench.run(Prepare(scale="quantile", impute="median", bins=128, smallest=5))
    summary = outcome.summary
    assert summary is not None
    assert summary.inputs == ("age", "chol", "oldpeak", "cp_none", "cp_typical")
    new = rows(2)
    np.testing.assert_allclose(
        Pipeline(summary.steps()).transform(new.rows()), summary.transform(new), atol=1e-12
    )
    (event,) = bench.events("preparation")
    assert event["queries"] == ["query.statistics", "query.categories", "query.histograms"]
    assert event["statistics"][-2:] == ["categories", "histogram counts"]
    for site in SITES:  # the app keeps back more than its owner asks for, but for the number
        assert event["withheld"].get(site, []) == []
    assert [kind for kind, _ in bench.seen["a"]][:4] == [*event["queries"], "train"]
    assert "rare" not in bench.journal.path.read_text()
    asked = Asked("a")
    for line, told in enumerate(read(bench.journal.path)):
        asked.add(told.kind, told.data, line)
    rounds = [(config.get("server-round", 0), kind) for kind, config in bench.seen["a"]]
    heads = [
        KeptHead(line, "run", "a", number, kind, 0, "", "", 0)
        for line, (number, kind) in enumerate(rounds)
    ]
    assert asked.off_the_record(SiteHeads("a", heads)) == ([], [])
    further = KeptHead(len(heads), "run", "a", 0, "query.else", 0, "", "", 0)
    faults, _ = asked.off_the_record(SiteHeads("a", [*heads, further, *heads[-1:]]))
    assert len(faults) == 1


def test_who_cannot_be_used_is_not_asked_again(bench: Bench) -> None:
    bench.join(plain(0), plain(1, columns=2))
    with pytest.raises(QuorumLost):
        bench.run(Prepare(scale="quantile", bins=64))
    outcome = bench.run(Prepare(scale="quantile", bins=64), rounds=0, min_sites=1)
    assert outcome.summary is not None
    kinds = {site: {kind for kind, _ in bench.seen[site]} for site in SITES}
    assert sorted(len(found) for found in kinds.values()) == [1, 2]


def test_the_coordinators_threshold_holds_where_the_owner_has_none(bench: Bench) -> None:
    bench.join(rows(0), rows(1), terms=Release())
    for smallest, known in ((3, True), (4, False)):
        summary = bench.run(Prepare(smallest=smallest), rounds=1).summary
        assert summary is not None
        assert ("cp_rare" in summary.inputs) is known


def test_prepared_values_travel_once_to_each_job(bench: Bench) -> None:
    wide = [plain(seed, columns=300) for seed in (0, 1)]
    one, _ = bench.join(*wide)

    def restart(number: int) -> None:
        if number == 3:  # a job that comes back without its memory
            one.prepared = once.Receiver()

    outcome = bench.run(Prepare(), restart, rounds=4)
    for site in SITES:
        asked = [config for kind, config in bench.seen[site] if kind in ("train", "evaluate")]
        assert len(asked) == 8
        assert all(config["prepare-rows"] == 80 for config in asked)
        assert not any(once.DIGEST in config for config in asked)
    sent = {(e["round"], e["phase"], e["site"]): e["sent"] for e in bench.events("site-metrics")}
    first = sent[1, "train", "b"]
    assert all(n < first / 2 for key, n in sent.items() if key[2] == "b" and key[0] > 1)
    assert sent[1, "evaluate", "a"] < first / 2
    assert sent[3, "train", "a"] > first
    assert sent[4, "train", "a"] < first / 2
    assert bench.events("site-error") == []
    assert list(outcome.prepared) == [once.DIGEST]
    closing = RecordDict({"arrays": outcome.arrays, "config": ConfigRecord(outcome.prepared)})
    assert one.prepared.fill(closing) is not None
    assert closing["config"]["prepare-rows"] == 80


def test_sparse_rows_end_to_end(bench: Bench) -> None:
    from scipy.sparse import csr_array

    def sparse(seed: int) -> SparseTable:
        x = np.random.default_rng(seed).poisson(0.4, size=(60, 30)).astype(np.float32)
        return SparseTable(tuple(f"x{i}" for i in range(30)), csr_array(x), np.arange(60) % 2)

    bench.join(sparse(0), sparse(1))
    outcome = bench.run(Prepare(impute="median"), rounds=1)
    assert outcome.summary is not None
    assert outcome.summary.sparse
    assert np.isfinite(outcome.arrays["coef"].numpy()).all()
    with pytest.raises(ConfigError, match="sparse rows have no quantiles"):
        bench.run(Prepare(scale="quantile"))


def test_a_site_whose_counts_are_not_its_own_takes_no_part(bench: Bench) -> None:
    calls = iter([plain(1), plain(2, n=44)])
    app = tabular_app(lambda _: next(calls), lambda _: plain(1))
    handler = bench.handler("b", plain(1))
    handler._app = app
    bench.world.join("a", bench.handler("a", plain(0)))
    bench.world.join("b", handler)
    bench.world.wait(2)
    with pytest.raises(QuorumLost):
        bench.run(Prepare(scale="quantile", bins=64))
    (fault,) = bench.events("site-error")
    assert (fault["site"], fault["phase"]) == ("b", "query.histograms")
    assert fault["error"] == "its histograms count other values than its statistics"


def test_nothing_but_rare_categories_is_no_federation(bench: Bench) -> None:
    def rare(seed: int) -> Table:
        texts = np.array([[f"{seed}-{i}"] for i in range(20)])
        return Table((), np.zeros((20, 0)), np.arange(20) % 2, ("code",), texts)

    bench.join(rare(0), rare(1))
    with pytest.raises(DataError, match="no feature is left"):
        bench.run(Prepare())


def test_one_class_at_a_site_and_missing_features_are_handled(bench: Bench) -> None:
    one, two = plain(0), plain(1)
    features = one.features.copy()
    features[:, 0], features[:, 1] = np.nan, 3.5
    one = Table(one.columns, features, np.zeros(len(one), dtype=np.int64))
    bench.join(one, two)
    outcome = bench.run(Prepare(scale="quantile", bins=64), rounds=1)
    assert outcome.summary is not None
    assert outcome.summary.class_counts == (60, 20)
    assert np.isfinite(outcome.summary.transform(one)).all()
    assert np.isfinite(outcome.arrays["coef"].numpy()).all()
