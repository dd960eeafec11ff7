"""A checkpoint is there whole or not at all, and any damage is found."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("safetensors")

import torch
from train_samples import ARCH, RECIPE

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.train import checkpoint as checkpoints
from hwnas.train.checkpoint import Checkpoint, EpochRecord, TrainingState, load, resume_point, save


def sample(epoch: int = 1) -> Checkpoint:
    """A checkpoint after `epoch` epochs whose weights say so."""
    weights = {"a.weight": torch.full((3, 4), float(epoch)), "a.count": torch.tensor(epoch)}
    network = {name: tensor + 1 for name, tensor in weights.items()}
    return Checkpoint(
        arch=ARCH,
        state_dict=weights,
        classes_names=("blue", "green", 'the "red" one'),
        recipe=RECIPE,
        history=tuple(EpochRecord(n, 1 / n, 10.0 * n, 50.0, 1e-3, 2.0) for n in range(1, epoch + 1)),
        name="tiny",
        data={"train_images": 36},
        training=TrainingState(
            model=network,
            optimizer={
                "state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.randn(3, 4)}},
                "param_groups": [{"lr": 0.1, "betas": [0.9, 0.999], "params": [0]}],
            },
            updates=7,
        ),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = sample(3)
    save(saved, tmp_path / "last.safetensors")
    loaded = load(tmp_path / "last.safetensors")
    assert (loaded.arch, loaded.recipe, loaded.history, loaded.classes_names, loaded.name, loaded.epoch) == (
        (saved.arch, saved.recipe, saved.history, saved.classes_names, saved.name, 3)
    )
    assert loaded.training is not None and saved.training is not None
    for found, expected in (
        (loaded.state_dict, saved.state_dict),
        (loaded.training.model, saved.training.model),
        (loaded.training.optimizer["state"][0], saved.training.optimizer["state"][0]),
    ):
        assert sorted(found) == sorted(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.training.optimizer["param_groups"] == saved.training.optimizer["param_groups"]
    assert loaded.training.updates == 7


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save(sample(), tmp_path / "last.safetensors")
    assert torch.equal(load_file(tmp_path / "last.safetensors")["weights/a.weight"], torch.ones(3, 4))


def test_weights_without_a_moving_average_are_stored_once(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    one = sample()
    assert one.training is not None
    same = dataclasses.replace(one, training=dataclasses.replace(one.training, model=one.state_dict))
    save(same, tmp_path / "last.safetensors")
    assert not [name for name in load_file(tmp_path / "last.safetensors") if name.startswith("model/")]
    loaded = load(tmp_path / "last.safetensors")
    assert loaded.training is not None
    assert torch.equal(loaded.training.model["a.weight"], one.state_dict["a.weight"])


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    """Fault 42."""
    path = tmp_path / "last.safetensors"
    save(sample(), path)
    content = path.read_bytes()
    rng = random.Random(0)
    places = {*range(200), *rng.sample(range(len(content)), 300), len(content) - 1}
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"last\.safetensors"):
            load(path)


def test_a_cut_off_or_longer_file_is_found(tmp_path: Path) -> None:
    """Fault 42."""
    path = tmp_path / "last.safetensors"
    save(sample(), path)
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(FileFormatError, match="checksum"):
        load(path)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 43."""
    monkeypatch.chdir(tmp_path)
    plain, zipped, old = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    plain.write_bytes(pickle.dumps(_Bomb()))
    torch.save({"bomb": _Bomb()}, zipped)
    torch.save({"bomb": _Bomb()}, old, _use_new_zipfile_serialization=False)
    for path in (plain, zipped, old):
        with pytest.raises(FileFormatError, match="a pickle"):
            load(path)
    assert not Path("exploded").exists()


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(FileFormatError, match="not a checkpoint of hwnas"):
        load(tmp_path / "x.safetensors")


def test_a_damaged_last_falls_back_to_the_previous(tmp_path: Path) -> None:
    """Fault 42: what is damaged is passed over."""
    save(sample(1), tmp_path / checkpoints.LAST)
    save(sample(2), tmp_path / checkpoints.LAST)
    assert resume_point(tmp_path).epoch == 2
    content = bytearray((tmp_path / checkpoints.LAST).read_bytes())
    content[-5] ^= 4
    (tmp_path / checkpoints.LAST).write_bytes(content)
    found = resume_point(tmp_path)
    assert found.epoch == 1
    assert len(found.skipped) == 1 and "checksum" in found.skipped[0]


def test_a_folder_gives_its_best_network(tmp_path: Path) -> None:
    save(sample(3), tmp_path / checkpoints.LAST)
    save(dataclasses.replace(sample(2), training=None), tmp_path / checkpoints.BEST)
    found = load(tmp_path)
    assert (found.epoch, found.training) == (2, None)
    (tmp_path / checkpoints.BEST).write_bytes(b"")
    assert load(tmp_path).epoch == 3


def test_a_folder_without_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no checkpoint in this folder"):
        load(tmp_path)
    with pytest.raises(UsageError, match="no such checkpoint"):
        load(tmp_path / "nowhere")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(sample(1), tmp_path / checkpoints.LAST)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HwnasError, match="No space left on device; the one before is intact"):
        save(sample(2), tmp_path / checkpoints.LAST)
    assert resume_point(tmp_path).epoch == 1
    assert [file.name for file in tmp_path.iterdir()] == [checkpoints.LAST]


@pytest.mark.parametrize(
    ("kills", "megabytes"),
    [(5, 0), pytest.param(20, 0, marks=pytest.mark.long), pytest.param(20, 24, marks=pytest.mark.long)],
)
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path, kills: int, megabytes: int) -> None:
    """Processes that do nothing but save are killed at random moments (fault 41)."""
    script = textwrap.dedent("""
        import dataclasses, os, random, signal, sys, time
        from pathlib import Path
        kills, megabytes = int(sys.argv[2]), int(sys.argv[3])
        sys.path[:0] = sys.argv[4:]
        import torch
        from test_train_checkpoint import sample
        from hwnas.train.checkpoint import LAST, save
        ballast = {"ballast": torch.zeros(megabytes, 2**18)} if megabytes else {}
        def kept(epoch):
            one = sample(epoch)
            return dataclasses.replace(one, state_dict=one.state_dict | ballast)
        rng = random.Random(1)
        for attempt in range(kills):
            last = Path(sys.argv[1], str(attempt), LAST)
            last.parent.mkdir()
            save(kept(1), last)
            child = os.fork()
            epoch = 2
            while not child:
                save(kept(epoch), last)
                epoch += 1
            time.sleep(rng.uniform(0.0, 0.05 * megabytes + 0.1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    """)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", script, str(tmp_path), str(kills), str(megabytes), *paths]
    subprocess.run(command, check=True, timeout=240)
    for attempt in range(kills):
        found = resume_point(tmp_path / str(attempt))
        assert found.skipped == ()
        assert torch.equal(found.state_dict["a.count"], torch.tensor(found.epoch))
    folders = [tmp_path / str(attempt) for attempt in range(kills)]
    assert max(resume_point(folder).epoch for folder in folders) > 1, "it did save"
    if kills == 20:
        assert any(list(folder.glob("*.partial")) for folder in folders), "some fell into a write"
