"""The Flower app of the traffic measurement: arrays go down, as many numbers come back, no more."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from willis.client.held_order import held_arrays, hold
from willis.shared.known_arrays import completed, digests_of, what_changed

SITES = 2
DEADLINE_S = 300.0
_LAYERS = 10  # arrays of a model
_SETTLED_S = 1.0  # after a round: what is still under way belongs to it

client = ClientApp()
server = ServerApp()


@client.train()
def answer(message: Message, context: Context) -> Message:
    """Read the model, and answer with as many numbers in the precision that was asked for."""
    asked = message.content.config_records["asked"]
    memory = Path(str(asked["folder"])) / f"site-{context.node_config['place']}"
    sent = {name: value.numpy() for name, value in message.content.array_records["model"].items()}
    kept = json.loads(str(asked["kept"]))
    model = completed(sent, kept, held_arrays(memory)) if kept else sent
    read = sum(value.size for value in model.values())
    if read != asked["parameters"]:
        raise ValueError(f"{asked['parameters']} parameters were announced, {read} came")
    if asked["hold"]:
        hold(memory, model)
    own = numbers(read, [int(str(asked["answer_seed"])), int(context.node_config["place"])])
    if asked["zeros"]:
        own = {name: np.zeros_like(value) for name, value in own.items()}
    told = {name: value.astype(str(asked["precision"])) for name, value in own.items()}
    return Message(RecordDict({"update": _record(told)}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds of the plan; after each one a line goes to the diary."""
    from willis.server.roll_call import looks

    plan = json.loads(Path(str(context.run_config["plan"])).read_text(encoding="utf-8"))
    for _ in looks(time.monotonic() + DEADLINE_S):
        if len(list(grid.get_node_ids())) == SITES:
            break
    with Path(str(context.run_config["diary"])).open("a", encoding="utf-8") as diary:
        for number, asked in enumerate(plan, start=1):
            begun = time.time()
            answered = _round(grid, number, asked)
            ended = time.time()
            time.sleep(_SETTLED_S)
            told = {"begun": begun, "ended": ended, "settled": time.time(), "answered": answered}
            diary.write(json.dumps(asked | told) + "\n")
            diary.flush()


def _round(grid: Grid, number: int, asked: Mapping[str, object]) -> int:
    """Return how many sites answered with what was asked for."""
    from willis.server.roll_call import exchange

    size, seed = int(str(asked["parameters"])), int(str(asked["seed"]))
    model = numbers(size, [seed])
    changed, kept = what_changed(model, digests_of(model) if asked["held"] else {})
    words = ConfigRecord({**asked, "kept": json.dumps(kept)})  # pyright: ignore[reportArgumentType]
    letter = RecordDict({"model": _record(changed), "asked": words})
    nodes = {str(node): node for node in grid.get_node_ids()}
    answers = exchange(
        grid,
        dict.fromkeys(nodes, letter),
        nodes=nodes,
        kind="train",
        number=number,
        deadline_s=DEADLINE_S,
    )
    return sum(_fits(reply, size, str(asked["precision"])) for _, reply in answers)


def numbers(size: int, seed: list[int]) -> dict[str, np.ndarray]:
    """Return random float32 numbers as a model's arrays; the same seed gives the same bytes."""
    flat = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    return {f"layer-{place}": part for place, part in enumerate(np.array_split(flat, _LAYERS))}


def _fits(reply: Message | str, size: int, precision: str) -> bool:
    if isinstance(reply, str) or reply.has_error():
        return False
    arrays = [value.numpy() for value in reply.content.array_records["update"].values()]
    return sum(value.size for value in arrays) == size and {str(value.dtype) for value in arrays} == {
        precision
    }


def _record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})
