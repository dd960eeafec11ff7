"""The experiment that estimators are judged on: which networks, in which order, and its table."""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.accuracy import load_accuracy
from hwnas.train.trainings import read_trainings

FOLDER = Path(__file__).parent.parent / "experiments" / "ground_truth"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads a script of the experiment; what they import of each other is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in ("estimate", "networks", "protocol", "table", "truth", "work"):
        if name not in before:
            sys.modules.pop(name, None)


def row(network: str, seed: int, top1_percent: float) -> dict[str, Any]:
    return {
        "protocol": "cpu",
        "id": network,
        "seed": seed,
        "top1_percent": top1_percent,
        "top1_by_epoch_percent": [top1_percent],
        "loss_by_epoch": [3 - top1_percent / 50],
        "cpu_seconds": 100.0,
        "wall_seconds": 100.0,
    }


def test_any_prefix_of_the_sampled_networks_is_balanced_by_attention_and_latency(script: Any) -> None:
    networks = script("networks")
    sampled = [one for one in networks.subjects() if one.origin.startswith("sampled")]
    assert len(sampled) >= 80
    bins = len(networks.EDGES_MS) - 1
    for length in range(5, len(sampled) + 1):
        kinds = Counter(one.kind for one in sampled[:length])
        binned = Counter(
            sum(edge <= one.latency_ms for edge in networks.EDGES_MS) for one in sampled[:length]
        )
        assert set(kinds) == set(networks.TYPES) and max(kinds.values()) - min(kinds.values()) <= 1
        assert set(binned) == set(range(1, bins + 1)) and max(binned.values()) - min(binned.values()) <= 1
    pairs = {(one.kind, sum(edge <= one.latency_ms for edge in networks.EDGES_MS)) for one in sampled[:20]}
    assert len(pairs) == 5 * bins


def test_a_network_attends_with_the_type_it_is_listed_under(script: Any) -> None:
    networks = script("networks")
    for one in networks.subjects():
        types = {block.type for stage in one.arch.stages for block in stage.blocks if block is not None}
        assert types == {one.kind} or (one.kind == "mixed" and len(types) != 1)


def test_the_first_trainings_hold_published_networks_and_three_seeds_of_four(script: Any) -> None:
    jobs = list(script("run").jobs())[:32]
    seeds = Counter(job.id for job in jobs)
    assert len(seeds) == 24 and sorted(seeds.values())[-4:] == [3, 3, 3, 3]
    assert sum(not job.origin.startswith("sampled") for job in jobs if job.seed == 0) >= 5
    assert len({(job.id, job.seed) for job in jobs}) == len(jobs)


def test_a_line_that_a_kill_has_torn_is_no_row_and_the_next_one_replaces_it(
    script: Any, tmp_path: Path
) -> None:
    table, file = script("table"), tmp_path / "results.jsonl"
    table.append(row("a", 0, 50.0), file)
    with file.open("a") as opened:
        opened.write('{"protocol": "cp')
    assert table.rows("cpu", file) == [row("a", 0, 50.0)]
    table.append(row("b", 0, 60.0), file)
    assert table.rows("cpu", file) == [row("a", 0, 50.0), row("b", 0, 60.0)]
    assert table.rows("gpu", file) == []


def test_an_estimator_is_judged_beside_parameters_macs_and_random(script: Any, tmp_path: Path) -> None:
    evaluate, table, file = script("evaluate"), script("table"), tmp_path / "results.jsonl"
    subjects = evaluate.estimate.networks.subjects()[:12]
    sizes = [evaluate.count_params(evaluate.lower(one.arch)) for one in subjects]
    for subject, size in zip(subjects, sizes, strict=True):
        table.append(row(subject.arch.id, 0, 40 + size / 1e6), file)
    table.append(row(subjects[0].arch.id, 1, 40.02 + sizes[0] / 1e6), file)
    asked = tmp_path / "estimates.jsonl"
    evaluate.estimate.ask("published", lambda: load_accuracy("published"), subjects, asked)
    document = evaluate.judged(evaluate.truth("cpu", file), asked)
    assert (document["networks"], document["trainings"]) == (12, 13)
    assert document["noise_std_points"] == pytest.approx(0.02 / 2**0.5)
    assert document["cpu_seconds_a_training"] == 100
    by_name = {one["name"]: one for one in document["estimators"]}
    figures = by_name["parameters"]
    assert figures["kendall_tau"] == figures["kendall_tau_within_bins"] == 1, "accuracy follows them here"
    assert figures["kendall_tau_error"] == 0 and figures["top_k_regret_points"] == 0
    assert by_name["random"]["kendall_tau"] < 0.7
    assert [level["level"] for level in by_name["published"]["calibration"]] == [0.5, 0.8, 0.9, 0.95]
    assert 0.9 < document["best_possible"]["kendall_tau"] <= 1
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in evaluate.shown(document).splitlines()
        if line.startswith("|")
    }
    assert cells["parameters"][:4] == ["1.00 ± 0.00", "1.00 ± 0.00", "1.00", "0.00"]
    beside = {"MACs", "random", "width of the first stage", "published", "best possible, given the noise"}
    assert beside <= set(cells)


def test_networks_are_also_ordered_among_those_whose_first_stage_is_as_wide(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate, table, file = script("evaluate"), script("table"), tmp_path / "results.jsonl"
    subjects = evaluate.estimate.networks.subjects()[:12]
    widths = [subject.arch.stages[0].width for subject in subjects]
    for number, (subject, width) in enumerate(zip(subjects, widths, strict=True)):
        macs = evaluate.count_macs(evaluate.lower(subject.arch))
        table.append(row(subject.arch.id, 0, width / 2 - macs / 1e9 + number / 1e6), file)
    monkeypatch.setattr(evaluate.estimate, "FILE", tmp_path / "none.jsonl")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--table", str(file), "--bins", "first-width"])
    evaluate.main()
    lines = {line.split("|")[1].strip(): line.split("|")[2:] for line in capsys.readouterr().out.split("\n")
             if line.startswith("|")}  # fmt: skip
    assert len(set(widths)) > 1 and lines["MACs"][1].strip().startswith("-1.00")
    assert lines["width of the first stage"][1].strip() == "-", "all of a bin are as wide"
    assert float(lines["width of the first stage"][0].split()[0]) > 0.7


@pytest.mark.slow
def test_what_can_be_learnt_from_the_trainings_is_judged_on_networks_left_out(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    evaluate, table, file = script("evaluate"), script("table"), tmp_path / "results.jsonl"
    monkeypatch.setattr(evaluate, "PARTS", 4)
    monkeypatch.setattr(evaluate, "LEARNT_FROM", (8, 16, 20))
    monkeypatch.setattr(evaluate, "DRAWS", 3)
    for subject in evaluate.estimate.networks.subjects()[:24]:
        table.append(row(subject.arch.id, 0, 40 + 5 * math.log(subject.latency_ms)), file)
    document = evaluate.judged(evaluate.truth("cpu", file), tmp_path / "none.jsonl")
    by_name = {one["name"]: one for one in document["estimators"]}
    assert 0.6 < by_name["learned, cross-validated"]["kendall_tau"] < 1
    curve = {one["trainings"]: one["kendall_tau"] for one in document["learning_curve"]}
    assert list(curve) == [8, 16] and 0.4 < curve[8] < curve[16] < 1
    said = evaluate.of_later_ones("cpu", 16, file)
    assert said.startswith("learned from 16 networks, of 8 trained later: tau ")


def test_a_training_is_judged_by_what_it_said_before_its_end(script: Any, tmp_path: Path) -> None:
    evaluate, table, file = script("evaluate"), script("table"), tmp_path / "results.jsonl"
    subjects = evaluate.estimate.networks.subjects()[:6]
    for number, subject in enumerate(subjects):
        curve = [30.0 - number, 40.0 + number, 50.0 + number]
        training = row(subject.arch.id, 0, curve[-1]) | {
            "top1_by_epoch_percent": curve,
            "loss_by_epoch": [2.0 - number / 100, 1.5 + number / 100, 1.4],
        }
        table.append(training, file)
    document = evaluate.judged(evaluate.truth("cpu", file), tmp_path / "none.jsonl")
    by_name = {one["name"]: one for one in document["estimators"]}
    first, second = (by_name[f"the training after {epoch} of 3 epochs"] for epoch in (1, 2))
    assert (first["kendall_tau"], second["kendall_tau"]) == (-1, 1)
    losses = [by_name[f"the training's loss in epoch {epoch} of 3"]["kendall_tau"] for epoch in (1, 2)]
    assert losses == [1, -1], "the less is lost the better"
    assert second["cpu_seconds"] == pytest.approx(2 / 3 * document["cpu_seconds_a_training"])


def test_the_error_of_a_tau_is_the_jackknifes(script: Any) -> None:
    evaluate = script("evaluate")
    # Of a mean, the jackknife's error is the usual one: the deviation over the root of n.
    values = [3.0, 5.0, 8.0, 12.0]
    others = [(sum(values) - value) / 3 for value in values]
    assert evaluate._jackknife(others) == pytest.approx(statistics.stdev(values) / 2)


def test_an_estimate_is_asked_for_once_and_what_is_missing_after_a_stop(script: Any, tmp_path: Path) -> None:
    estimate, file = script("estimate"), tmp_path / "estimates.jsonl"
    asked: list[str] = []

    class Counting:
        unit = "%"

        def predict(self, arch: Any) -> Estimate:
            asked.append(arch.id)
            return Estimate(float(len(asked)), 0.5, unit="%")

    subjects = estimate.networks.subjects()[:5]
    assert estimate.ask("mine", Counting, subjects, file, enough=lambda: len(asked) == 2) == 2
    assert estimate.ask("mine", Counting, subjects, file) == 3
    assert estimate.ask("mine", Counting, subjects, file) == 0
    assert asked == [subject.arch.id for subject in subjects]
    rows = estimate.estimates(file)["mine"]
    assert estimate.as_estimate(rows[subjects[4].arch.id]) == Estimate(5.0, 0.5, unit="%")


def test_an_estimator_that_refuses_few_networks_is_judged_on_the_others(script: Any, tmp_path: Path) -> None:
    evaluate, table, file = script("evaluate"), script("table"), tmp_path / "results.jsonl"
    subjects, asked = evaluate.estimate.networks.subjects()[:12], tmp_path / "estimates.jsonl"
    for number, subject in enumerate(subjects):
        table.append(row(subject.arch.id, 0, 50.0 + number), file)

    class Refusing:
        def __init__(self, count: int) -> None:
            self.unknown = {subject.arch.id for subject in subjects[:count]}

        def predict(self, arch: Any) -> Estimate:
            if arch.id in self.unknown:
                raise UsageError("must be one of the space")
            return Estimate(-float([subject.arch.id for subject in subjects].index(arch.id)))

    for count in (1, 2):
        evaluate.estimate.ask(f"refuses {count}", lambda count=count: Refusing(count), subjects, asked)
    document = evaluate.judged(evaluate.truth("cpu", file), asked)
    (one,) = [one for one in document["estimators"] if one["name"].startswith("refuses")]
    assert one["name"] == "refuses 1", "2 of 12 are too many"
    assert (one["networks"], one["kendall_tau"]) == (11, -1.0)
    assert "| refuses 1 (11 networks) | -1.00 ± 0.00 " in evaluate.shown(document)


def test_networks_that_were_trained_out_of_order_are_asked_about_alone(script: Any, tmp_path: Path) -> None:
    estimate, table, file = script("estimate"), script("table"), tmp_path / "results.jsonl"
    subjects = estimate.networks.subjects()
    for number in (40, 2):
        table.append(row(subjects[number].arch.id, 0, 50.0), file)
    assert [one.number for one in estimate.asked_about(120, "cpu", file)] == [2, 40]
    assert [one.number for one in estimate.asked_about(3)] == [0, 1, 2]
    assert estimate.asked_about(120, "gpu", file) == []


def test_the_ground_truth_is_a_table_that_learned_reads(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    export, table, file = script("as_trainings"), script("table"), tmp_path / "results.jsonl"
    subjects = export.networks.subjects()[:3]
    for number, subject in enumerate(subjects):
        table.append(row(subject.arch.id, 0, 50.0 + number), file)
    table.append(row("picked", 0, 70.0), file)
    for line in export.trainings("cpu", file):
        export.remember(line, tmp_path / "trainings.jsonl")
    assert len(list(export.trainings("cpu", file, 2))) == 2, "of the earliest two"
    trainings = read_trainings(tmp_path)
    assert [one.arch for one in trainings] == [subject.trained for subject in subjects]
    assert [one.top1_percent for one in trainings] == [50.0, 51.0, 52.0]
    (condition,) = {one.condition for one in trainings}
    assert (condition.resolution, condition.stem_stride, condition.classes) == (32, 4, 10)


def test_a_search_picks_its_best_network_within_the_budget_in_pieces(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    picks = script("picks")
    space = picks.searched_space(None)
    first = picks.picked("published", "published", 2.2, space, 12, tmp_path / "run", 0.0)
    assert first is None, "no time, no network"
    pick = picks.picked("published", "published", 2.2, space, 12, tmp_path / "run", 1e9)
    assert pick.latency_ms <= 2.2 and (pick.by, pick.name) == ("published", "12 evaluated")
    assert pick.latency_ms == pytest.approx(picks.LatencyTable.load("cpu-x86").predict(pick.arch).value)


def test_a_pick_is_compared_with_the_best_preset_within_its_budget(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    picks, table = script("picks"), script("table")
    device = picks.LatencyTable.load("cpu-x86")
    presets = list(picks.best_presets(5.6, device))
    families = [picks.preset_info(one.name).family for one in presets]
    within = {
        picks.preset_info(name).family
        for name in picks.preset_names()
        if picks.preset_info(name).imagenet_top1_percent is not None
        and device.predict(picks.preset(name)).value <= 5.6
    }
    assert sorted(families) == sorted(within) and len(within) > 1
    for one in presets:  # none with a published figure is between it and the budget
        info = picks.preset_info(one.name)
        others = [
            device.predict(picks.preset(name)).value
            for name in picks.preset_names()
            if picks.preset_info(name).family == info.family
            and picks.preset_info(name).imagenet_top1_percent is not None
        ]
        assert one.latency_ms == max(latency_ms for latency_ms in others if latency_ms <= 5.6)
    mine = picks.Pick("mine", 5.6, "9 evaluated", 3.0, picks.networks.subjects()[0].arch)
    file, results = tmp_path / "picks.jsonl", tmp_path / "results.jsonl"
    for pick in (*presets, mine):
        table.append(pick.to_dict(), file)
    assert picks.picks(file)[-1] == mine

    def jobs(*seeds: int) -> list[tuple[str, int]]:
        return [(job.id, job.seed) for job in picks.to_train("cpu", seeds=seeds, file=file, results=results)]

    assert jobs(0) == [(pick.arch.id, 0) for pick in (*presets, mine)]
    for number, pick in enumerate(presets):
        for seed in (0, 1):
            table.append(row(pick.arch.id, seed, 50.0 + number + seed), results)
    table.append(row(mine.arch.id, 0, 60.0), results)
    assert jobs(1) == [(presets[-1].arch.id, 1), (mine.arch.id, 1)], "of the presets, the best one"
    best = 50.5 + len(presets) - 1
    last = picks.report("cpu", file, results).splitlines()[-1]
    assert last == f"| 5.6 | mine | 9 evaluated | 3.00 | 60.00 | 1 | {60 - best:+.2f} |"
    said = picks.load_accuracy("published").predict(mine.arch)
    last = picks.told("published", "cpu", file, results).splitlines()[-1]
    assert last == f"| 5.6 | mine | {said.value:.2f} ± {said.std:.2f} | 60.00 |"
    table.append(row(presets[-1].arch.id, 2, 10.0), results)
    assert jobs(2)[0] == (presets[-2].arch.id, 2), "which is the best one now"


@pytest.mark.slow
def test_a_killed_training_goes_on_after_its_last_epoch_to_the_same_weights(
    script: Any, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from train_samples import ARCH

    from hwnas.data.pixels import Pixels

    training = script("protocol")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    pixels = Pixels(images, torch.arange(24) % 3, ("a", "b", "c"))
    data = training.Data(pixels, pixels, pixels.first(6))
    protocol = training.Protocol("cpu", 24, epochs=3, batch_size=8, peak_lr=1e-3, device="cpu", side=16)
    arch = ARCH.adapted(classes=3)

    class Killed(Exception):
        pass

    def train(name: str, kill_at: str = "never") -> dict[str, Any]:
        def report(text: str) -> None:
            said.append(text)
            if text.startswith(kill_at):
                raise Killed

        state = tmp_path / name
        outcome: dict[str, Any] = training.train(
            arch, data, protocol, seed=0, state_file=state, report=report
        )
        return outcome

    said: list[str] = []
    whole = train("whole")
    with pytest.raises(Killed):
        train("killed", kill_at="epoch 2")
    resumed = train("killed")
    assert "resumed after epoch 1" in said
    for name in ("top1_by_epoch_percent", "loss_by_epoch"):
        assert resumed[name] == whole[name]
    kept = [torch.load(tmp_path / name, weights_only=True)["network"] for name in ("whole", "killed")]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


@pytest.mark.slow
def test_processes_at_once_share_the_trainings_and_one_that_died_leaves_its_own_to_others(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    work, run = script("work"), script("run")
    jobs = [job for job in run.jobs() if job.seed == 0][:3]
    protocol = run.training.PROTOCOLS["cpu"]
    file, trained = tmp_path / "results.jsonl", []

    def another_process() -> None:
        work.work(jobs, None, protocol, folder=tmp_path, file=file)

    def train(job: Any, data: Any, protocol: Any, state_file: Path, file: Path) -> None:
        trained.append(job.id)
        if len(trained) == 1:
            another_process()  # takes all but what this one is at
        if len(trained) == 4:
            raise KeyboardInterrupt
        work.table.append(row(job.id, job.seed, 50.0), file)

    monkeypatch.setattr(work, "_train", train)
    another_process()
    ids = [job.id for job in jobs]
    assert trained == ids
    assert {one["id"] for one in work.table.rows("cpu", file)} == set(ids)
    assert len(work.table.rows("cpu", file)) == 3, "nothing is trained twice"
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        another_process()
    another_process()
    assert trained[3:] == [ids[0], *ids], "what was given up is taken again"


def test_the_command_trains_in_order_and_goes_on_where_the_table_ends(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from train_samples import squares

    data, run = squares(tmp_path / "data", train=6, test=2), script("run")
    made = tmp_path / "results.jsonl"
    asked = ["run.py", "--data", str(data), "--work", str(tmp_path / "work"), "--table", str(made)]
    for trainings in (1, 2, 2):
        monkeypatch.setattr(sys, "argv", [*asked, "--trainings", str(trainings)])
        run.main()
        rows = run.table.rows("cpu", made)
        assert [one["id"] for one in rows] == [
            subject.arch.id for subject in run.networks.subjects()[:trainings]
        ]
    assert [len(one["top1_by_epoch_percent"]) for one in rows] == [6, 6]
    assert all(one["cpu_seconds"] > 0 and one["environment"]["torch"] for one in rows)
    assert not list((tmp_path / "work").iterdir()), "a finished training leaves nothing behind"
