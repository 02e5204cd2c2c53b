"""Which devices a run holds, and how many processes draw on them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.runs import RunState, RunStore, devices, submit, worker
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.workers import Workers
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.config import UnlearnConfig
from tests.support.runs import JOBS, config_of, settings_in, until, until_state

RUNS = config_of()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which driver and torch show four GPUs."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (folder / name).touch()
    monkeypatch.setattr(devices, "DEVICES", folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "a GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1 << 40, 1 << 40))


def asked(device: str, workers: int | str = "auto") -> ScoreConfig:
    return RUNS.model_copy(
        update={"model": ModelConfig(device=device), "estimator": EstimatorConfig(workers=workers)}
    )


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("settings", "others"),
    [
        ({}, []),
        ({"processes": 3}, ["cuda:1", "cuda:2"]),
        ({"optimiser": {"spread": True}}, ["cuda:1", "cuda:2", "cuda:3"]),
    ],
)
def test_an_unlearning_run_holds_a_gpu_for_each_process_or_all_that_it_lies_on(settings, others):
    config = UnlearnConfig.model_validate({"score_run": "/x", "model": {"device": "auto"}} | settings)
    assert devices.beside("cuda:0", config) == others


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("device", "workers", "others"),
    [
        ("auto", "auto", ["cuda:1", "cuda:2", "cuda:3"]),
        ("cuda", 2, ["cuda:1"]),
        ("auto", 1, []),
        ("cuda:0", "auto", []),
        ("cpu", "auto", []),
    ],
)
def test_a_score_run_holds_the_gpus_that_it_shares_its_draws_to(device, workers, others):
    config = asked(device, workers)
    assert devices.beside("cpu" if device == "cpu" else "cuda:0", config) == others
    assert [str(each) for each in Workers.of(config.estimator, config.model).devices][1:] == (
        others if device != "cpu" else ["cpu"] * (len(Workers.of(config.estimator, config.model).devices) - 1)
    )


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("visible", "count"), [("0,2", 2), ("", 0), ("0,1,2,3,4,5", 4)])
def test_gpus_that_a_job_does_not_see_are_none_of_its_own(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == [f"cuda:{index}" for index in range(count)]


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("device", "workers"), [("auto", 5), ("cuda:2", 2)])
def test_more_workers_than_gpus_are_refused(device, workers):
    with pytest.raises(UserError, match="several on one GPU take turns there and gain nothing"):
        Workers.of(EstimatorConfig(workers=workers), ModelConfig(device=device))


@pytest.mark.usefixtures("four_gpus")
def test_a_model_that_lies_on_all_gpus_has_one_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1 << 21, 1 << 40))
    workers = Workers.of(EstimatorConfig(), ModelConfig())
    assert [str(device) for device in workers.devices] == ["cuda:0"]
    assert workers.reason == "the model lies on all 4 GPUs"


@pytest.mark.usefixtures("four_gpus")
def test_a_run_waits_until_all_of_its_gpus_are_free(settings):
    store = RunStore.open(settings)
    run = submit(asked("cuda", 3), store=store, settings=settings)
    (settings.home / "locks").mkdir()
    taken = FileLock(settings.home / "locks" / f"{devices.lock_name('cuda:2')}.lock")
    with taken:
        at_work = threading.Thread(
            target=worker.run, args=(run.directory,), kwargs={"store": store, "job": f"{JOBS}:count"}
        )
        at_work.start()
        until(lambda: store.get(run.id).progress.get("message") == "waiting for cuda:2", "it waits")
        for name in ("cuda:0", "cuda:1"):
            with pytest.raises(Timeout):
                FileLock(settings.home / "locks" / f"{devices.lock_name(name)}.lock").acquire(timeout=0)
        assert store.get(run.id).state is RunState.QUEUED
    until_state(store, run, RunState.SUCCEEDED)
    at_work.join()


def test_a_lock_is_that_of_the_gpu_itself_and_of_its_machine(monkeypatch):
    host = devices.socket.gethostname()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.lock_name("cuda:1") == f"{host}-cuda-1"
    assert devices.lock_name("cpu") == f"{host}-cpu"
    # The first GPU that another process sees may be the second that this one does.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    assert devices.lock_name("cuda:0") == f"{host}-cuda-1"
    assert devices.lock_name("cuda:1") == f"{host}-cuda-3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f/../x")
    assert devices.lock_name("cuda:0") == f"{host}-cuda-GPU-5f-..-x"
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "node7")
    assert devices.lock_name("cpu") == "node7-cpu"
