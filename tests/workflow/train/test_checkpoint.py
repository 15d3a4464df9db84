from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.lr_scheduler import PolynomialLR

from custom_networks.workflow import BestCheckpoint, ResumableCheckpoint, TrainingCases, load_weights
from custom_networks.workflow.data.training_cases import find_seen_cases
from custom_networks.workflow.guard.interrupts import Progress
from custom_networks.workflow.train import checkpoint as checkpoint_module
from custom_networks.workflow.train.checkpoint import bare
from custom_networks.workflow.train.checkpoint_files import read_checkpoint, save_atomically

CASES = TrainingCases("data", [{"case": "a"}], [{"case": "b"}])


def network(features: int = 4, auxiliary: bool = False) -> nn.Module:
    net = nn.Sequential()
    net.add_module("body", nn.Conv3d(1, features, 3))
    net.add_module("head", nn.Conv3d(features, 2, 1))
    if auxiliary:
        net.add_module("auxiliary_heads", nn.ModuleList([nn.Conv3d(features, 2, 1)]))
    return net


def equal(one: nn.Module, other: dict) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


def saved(path: Path, state) -> Path:
    torch.save(state, path)
    return path


def test_load_weights_plain_nested_and_wrapped(tmp_path):
    source = network().state_dict()
    for state in (source, {"model": source, "trainer": {"epoch": 3}}):
        target = network()
        assert not equal(target, source)
        load_weights(target, saved(tmp_path / "a.pt", state))
        assert equal(target, source)


def test_load_weights_through_the_wrapper_of_distributed_training(tmp_path):
    class Wrapper(nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    inner, source = network(), network().state_dict()
    wrapped = Wrapper(inner)
    assert bare(wrapped) is inner
    load_weights(wrapped, saved(tmp_path / "a.pt", source))
    assert equal(inner, source)


def test_auxiliary_heads_are_dropped_only_where_there_are_none(tmp_path, caplog):
    source = network(auxiliary=True).state_dict()
    path = saved(tmp_path / "a.pt", source)
    plain, deep = network(), network(auxiliary=True)
    load_weights(plain, path)
    load_weights(deep, path)
    assert equal(plain, source)
    assert equal(deep, source)
    assert not caplog.records
    with pytest.raises(ValueError, match=r"2 of 6 tensors differ .*auxiliary_heads"):
        load_weights(deep, saved(tmp_path / "b.pt", network().state_dict()))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("head.bias"),
        lambda s: s.update({"extra": torch.zeros(1)}),
        lambda s: s.update({"head.bias": torch.zeros(3)}),
        lambda s: s.update({"head.bias": "text"}),
    ],
)
def test_strict_refuses_any_difference_and_finetuning_takes_what_fits(tmp_path, change, caplog):
    source, target = network().state_dict(), network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    change(source)
    path = saved(tmp_path / "a.pt", source)
    with pytest.raises(ValueError, match=r"\A[^\n]*a\.pt does not fit Sequential: 1 of 4 [^\n]*profile[^\n]*\Z"):
        load_weights(target, path)
    assert equal(target, before)
    load_weights(target, path, strict=False)
    assert torch.equal(target.body.weight, source["body.weight"])
    bias = source.get("head.bias")
    fits = isinstance(bias, torch.Tensor) and bias.shape == before["head.bias"].shape
    assert torch.equal(target.head.bias, bias if fits else before["head.bias"])
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert (
        f"{3 + fits} of 4 tensors loaded; {'not used: extra' if fits else 're-initialised: head.bias'}" in caplog.text
    )


def test_the_checkpoint_of_another_network_is_refused_in_both_modes(tmp_path):
    path = saved(tmp_path / "a.pt", nn.Linear(3, 2).state_dict())
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"\A[^\n]*a\.pt does not fit Sequential[^\n]*use the checkpoint[^\n]*\Z"):
            load_weights(network(), path, strict=strict)


def test_wider_network_shares_no_shape_but_one(tmp_path, caplog):
    source, target = network(8).state_dict(), network(4)
    load_weights(target, saved(tmp_path / "a.pt", source), strict=False)
    assert torch.equal(target.head.bias, source["head.bias"])
    assert "1 of 4 tensors loaded; re-initialised: body, head.weight" in caplog.text


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 4), (4, 1), (3, 2)])
def test_another_number_of_channels_keeps_the_response_to_equal_channels(tmp_path, caplog, old, new):
    def build(channels: int, classes: int) -> nn.Sequential:
        net = nn.Sequential()
        net.add_module("body", nn.Conv3d(channels, 4, 3))
        net.add_module("second", nn.Conv3d(channels, 4, 1))
        net.add_module("up", nn.ConvTranspose3d(4, channels, 2))
        net.add_module("head", nn.Conv3d(4, classes, 1))
        return net

    source, target = build(old, 2), build(new, 4)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    path = saved(tmp_path / "a.pt", source.state_dict())
    with pytest.raises(ValueError, match="does not fit Sequential"):
        load_weights(target, path)
    load_weights(target, path, strict=False)
    image = torch.randn(1, 1, 5, 5, 5)
    for name in ("body", "second"):
        one, other = getattr(source, name), getattr(target, name)
        torch.testing.assert_close(
            one(image.expand(-1, old, -1, -1, -1)), other(image.expand(-1, new, -1, -1, -1)), rtol=1e-5, atol=1e-5
        )
    for key in ("up.weight", "head.weight", "head.bias"):
        assert torch.equal(target.state_dict()[key], before[key])
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "averaged over the old channels and spread over the new ones: body, second; " in caplog.text
    assert "re-initialised: up, head" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


def test_only_the_first_convolution_is_spread_over_other_channels(tmp_path, caplog):
    def build(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv3d(1, width, 3), nn.Conv3d(width, 4, 3), nn.Conv3d(4, 2, 1))

    target = build(6)
    load_weights(target, saved(tmp_path / "a.pt", build(8).state_dict()), strict=False)
    assert "spread" not in caplog.text
    assert "re-initialised: 0, 1.weight" in caplog.text


def evaluator(metric: float, epoch: int) -> Engine:
    engine = Engine(lambda *_: None)
    engine.state.metrics = {"dice": metric}
    engine.state.key_metric_name = "dice"
    engine.state.epoch = epoch
    return engine


def test_best_checkpoint_writes_on_improvement_only(tmp_path):
    net = network()
    best = BestCheckpoint(net, tmp_path / "models" / "model.pt", [CASES])
    kept = None
    for epoch, (metric, better) in enumerate(
        [(float("nan"), False), (0.3, True), (0.3, False), (0.2, False), (0.5, True), (float("nan"), False)], start=1
    ):
        nn.init.constant_(net.head.bias, epoch)
        best(evaluator(metric, epoch))
        if better:
            kept = (metric, epoch)
        assert best.path.exists() == (kept is not None)
        if kept:
            assert float(read_checkpoint(best.path)["head.bias"][0]) == kept[1]
            assert (best.best_metric, best.best_epoch) == kept
            assert find_seen_cases(best.path).names == {"a"}
    assert set(read_checkpoint(best.path)) == set(net.state_dict())


def test_best_checkpoint_writes_what_belongs_to_the_weights_after_them(tmp_path):
    written = []

    class Beside:
        def write(self, weights):
            written.append((len(written), weights.is_file()))

    best = BestCheckpoint(network(), tmp_path / "model.pt", [Beside(), Beside()])
    best(evaluator(0.5, 1))
    best(evaluator(0.4, 2))
    assert written == [(0, True), (1, True)]


def test_best_checkpoint_remembers_across_a_resume(tmp_path):
    first = BestCheckpoint(network(), tmp_path / "model.pt", [CASES])
    first(evaluator(0.8, 4))
    written = first.path.read_bytes()
    second = BestCheckpoint(network(), tmp_path / "model.pt", [CASES])
    second.load_state_dict(read_checkpoint(saved(tmp_path / "s.pt", first.state_dict())))
    second(evaluator(0.7, 5))
    assert second.path.read_bytes() == written
    assert second.state_dict() == {"best_metric": 0.8, "best_epoch": 4, "starting_metric": None}
    second(evaluator(0.9, 6))
    assert second.path.read_bytes() != written


def test_best_checkpoint_listens_to_the_end_of_an_evaluation(tmp_path):
    engine = Engine(lambda *_: None)
    best = BestCheckpoint(network(), tmp_path / "model.pt", [CASES])

    @engine.on(Events.EPOCH_COMPLETED)
    def _measure(engine):
        engine.state.metrics["dice"] = 0.4
        engine.state.key_metric_name = "dice"

    best.attach(engine)
    engine.run([0], max_epochs=1)
    assert best.best_metric == pytest.approx(0.4)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("custom_networks.workflow.train.checkpoint.idist.get_rank", lambda: 1)
    best = BestCheckpoint(network(), tmp_path / "model.pt", [CASES])
    best(evaluator(0.5, 1))
    assert best.best_metric == pytest.approx(0.5)
    trainer, _, checkpoint = training(tmp_path)
    checkpoint(trainer)
    assert not list(tmp_path.iterdir())


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_atomically({"epoch": torch.tensor(1)}, path)
    save = torch.save

    def half(state, file):
        save(state, file)
        content = Path(file).read_bytes()
        Path(file).write_bytes(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        save_atomically({"epoch": torch.tensor(2)}, path)
    monkeypatch.undo()
    assert int(read_checkpoint(path)["epoch"]) == 1
    save_atomically({"epoch": torch.tensor(3)}, path)
    assert int(read_checkpoint(path)["epoch"]) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def training(folder: Path, max_epochs: int = 5, resume: Path | None = None):
    """Return a trainer whose only step counts in the optimiser, its objects, and the checkpoint handler."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(*_):
        optimizer.zero_grad()
        net(torch.ones(1, 1, 3, 3, 3)).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    trainer.state.max_epochs = max_epochs
    objects = {"model": net, "optimizer": optimizer, "trainer": trainer}
    return trainer, objects, ResumableCheckpoint(folder / "last_checkpoint.pt", objects, resume)


def stopped_after(folder: Path, epochs: int, max_epochs: int = 5):
    trainer, objects, checkpoint = training(folder, max_epochs)
    checkpoint.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), trainer.terminate)
    trainer.run([0, 0], max_epochs=max_epochs)
    return objects, checkpoint.path


def test_a_resumed_training_has_the_whole_state(tmp_path, caplog):
    before, path = stopped_after(tmp_path, 2)
    trainer, objects, checkpoint = training(tmp_path, resume=path)
    checkpoint.attach(trainer)
    assert equal(objects["model"], before["model"].state_dict())
    momentum = [s["momentum_buffer"] for s in objects["optimizer"].state_dict()["state"].values()]
    for one, other in zip(momentum, before["optimizer"].state_dict()["state"].values(), strict=True):
        assert torch.equal(one, other["momentum_buffer"])
    assert (trainer.state.epoch, trainer.state.max_epochs) == (2, 5)
    seen = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: seen.append(e.state.epoch))
    trainer.run([0, 0])
    assert seen == [3, 4, 5]
    assert read_checkpoint(path)["trainer"]["iteration"] == 10
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(("iterations", "warns"), [(10, False), (16, True)])
def test_another_plan_of_the_learning_rate_is_kept_with_a_warning(tmp_path, caplog, iterations, warns):
    trainer, objects, checkpoint = training(tmp_path)
    checkpoint.objects["lr_scheduler"] = PolynomialLR(objects["optimizer"], 10)
    checkpoint.attach(trainer)
    trainer.run([0, 0], max_epochs=2)
    trainer, objects, checkpoint = training(tmp_path, max_epochs=8, resume=checkpoint.path)
    checkpoint.objects["lr_scheduler"] = PolynomialLR(objects["optimizer"], iterations)
    checkpoint.attach(trainer)
    assert trainer.state.max_epochs == 8
    assert checkpoint.objects["lr_scheduler"].total_iters == 10
    assert ("planned its learning rate over 10 iterations, not 16" in caplog.text) is warns


def test_nothing_to_resume(tmp_path):
    _, path = stopped_after(tmp_path, 3, max_epochs=3)
    trainer, _, checkpoint = training(tmp_path, max_epochs=3, resume=path)
    with pytest.raises(ValueError, match=r"has finished epoch 3 of 3 and its schedule .* finetune_ckpt"):
        checkpoint.attach(trainer)
    weights = saved(tmp_path / "model.pt", network().state_dict())
    trainer, _, checkpoint = training(tmp_path, resume=weights)
    with pytest.raises(ValueError, match=r"model\.pt cannot be resumed from, it lacks model, optimizer, trainer; give"):
        checkpoint.attach(trainer)
    trainer, _, checkpoint = training(tmp_path, resume=tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        checkpoint.attach(trainer)


@pytest.mark.parametrize(("epochs", "stops", "ended"), [(3, None, True), (5, 2, True), (5, None, False)])
def test_a_state_tells_whether_its_training_has_ended(tmp_path, epochs, stops, ended):
    trainer, _, checkpoint = training(tmp_path, max_epochs=epochs)
    if stops:  # as EarlyStop does, which hears of the epoch before the state is saved
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stops), trainer.terminate)
    checkpoint.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=3), trainer.terminate)  # here the process is killed
    trainer.run([0, 0], max_epochs=epochs)
    assert checkpoint_module.has_ended(checkpoint.path) is ended


def test_the_state_of_another_network_is_not_resumed(tmp_path):
    _, path = stopped_after(tmp_path, 1)
    trainer, objects, _ = training(tmp_path)
    checkpoint = ResumableCheckpoint(path, {**objects, "model": network(8)}, path)
    with pytest.raises(ValueError, match="does not fit Sequential"):
        checkpoint.attach(trainer)


@pytest.mark.parametrize("key", ["optimizer", "trainer"])
@pytest.mark.parametrize("state", [{}, {"param_groups": []}, 3], ids=str)
def test_a_state_that_does_not_fit_is_refused_in_one_sentence(tmp_path, key, state):
    stopped_after(tmp_path, 2)
    path = tmp_path / "last_checkpoint.pt"
    save_atomically({**read_checkpoint(path), key: state}, path)
    trainer, _, checkpoint = training(tmp_path, resume=path)
    message = rf"\A\S+last_checkpoint\.pt cannot be resumed from, its {key} does not fit \([^\n]+\); give [^\n]+\Z"
    with pytest.raises(ValueError, match=message):
        checkpoint.attach(trainer)


def test_what_is_saved_is_known_when_the_training_is_stopped(tmp_path, monkeypatch):
    progress = Progress()
    monkeypatch.setattr(checkpoint_module, "PROGRESS", progress)
    trainer, _, checkpoint = training(tmp_path)
    checkpoint.attach(trainer)
    assert progress.checkpoint is None
    trainer.run([0, 0], max_epochs=2)
    assert (progress.checkpoint, progress.epoch) == (tmp_path / "last_checkpoint.pt", 2)
    save = checkpoint_module.save_atomically

    def stop_behind(state, path):
        save(state, path)
        raise KeyboardInterrupt

    def stop_before(state, path):
        raise KeyboardInterrupt

    for stop, epoch in ((stop_before, 2), (stop_behind, 3)):
        monkeypatch.setattr(checkpoint_module, "save_atomically", stop)
        trainer.state.epoch = 3
        with pytest.raises(KeyboardInterrupt):
            checkpoint(trainer)
        assert progress.epoch == epoch
    trainer, _, checkpoint = training(tmp_path / "new", resume=tmp_path / "last_checkpoint.pt")
    checkpoint.attach(trainer)
    assert progress.checkpoint == tmp_path / "last_checkpoint.pt"
