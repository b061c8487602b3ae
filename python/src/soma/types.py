"""The answers of a node's API as dataclasses, with the API's field names.

64-bit integers are decimal strings in the API's JSON and `int` here. Unknown fields are ignored, so
an older client reads a newer node.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from functools import cache


@dataclass(frozen=True)
class Clock:
    """Epoch and phase at the last finalized block."""

    epoch: int
    phase: str
    """`reveal`, `publish:0` and so on for each rank, `compete`, `attest`."""
    ends_ms: int | None
    beacon: str | None


@dataclass(frozen=True)
class Supply:
    """Where all money is, in base units. `reserve + held = cap - burned`, always."""

    cap: int
    reserve: int
    held: int
    burned: int
    conserved: bool


@dataclass(frozen=True)
class Audits:
    """Audits by a node's validator; all but `waiting` is counted since the node was started."""

    waiting: int
    valid: int
    invalid: int
    put_off: int
    scores: int
    bytes: int
    spent_ms: int


@dataclass(frozen=True)
class Trouble:
    """Something about a node that its operator should know."""

    code: str
    message: str
    hint: str
    unready: bool
    """Whether the node cannot serve because of it."""


@dataclass(frozen=True)
class NextRules:
    """A version of the rules that is scheduled."""

    version: int
    from_epoch: int
    """The epoch from which on blocks follow it."""


@dataclass(frozen=True)
class Rules:
    """The rules of a chain, and those that a node executes."""

    version: int
    """The version that the next block follows."""
    next: NextRules | None
    """The version that is scheduled."""
    min: int
    max: int


@dataclass(frozen=True)
class Status:
    """The state of the chain and of the node."""

    chain: str
    chain_id: str
    version: str
    height: int
    block: str
    state_root: str
    timestamp_ms: int
    clock: Clock
    rules: Rules | None
    """The rules that blocks follow, and those that the node executes."""
    models_active: int
    targets_open: int
    pool: int
    tip_per_kib: int | None
    """The tip for each KiB of weight that gets a payment into the next block, in base units."""
    duties: int
    peers: int
    history_from: int
    transactions_final: int
    audits: Audits
    supply: Supply
    ready: bool | None
    """Whether the node can serve, as `/readyz` says."""
    troubles: list[Trouble] | None
    """What its operator should know, the worst first."""
    local: bool | None
    """Whether this is a local network, on whose machine data can be tried."""


@dataclass(frozen=True)
class Corpus:
    """The documents that an account has fixed, for the targets of `from_epoch` and later."""

    root: str
    leaves: int
    from_epoch: int


@dataclass(frozen=True)
class Account:
    """An account; `balance` in base units. An unknown one is empty."""

    address: str
    balance: int
    nonce: int
    next_nonce: int
    models: list[int]
    corpus: Corpus | None
    """What counts for the targets of the running epoch."""
    next_corpus: Corpus | None
    """What was committed in the running epoch and counts from the next one on."""
    height: int


@dataclass(frozen=True)
class Weights:
    """Public weights of a model."""

    hash: str
    size_bytes: int
    ciphertext_hash: str
    key: str
    revealed_epoch: int
    first_epoch: int
    refresh_epoch: int


@dataclass(frozen=True)
class Commit:
    """A commitment to weights that are not public yet."""

    epoch: int
    architecture: int
    commitment: str
    ciphertext_hash: str
    size_bytes: int
    holders: list[str]
    held: bool
    rent: int


@dataclass(frozen=True)
class NextCommission:
    """An announced commission, and the first epoch in which it applies."""

    bps: int
    epoch: int


@dataclass(frozen=True)
class Rent:
    """The rent of a model's file; amounts in base units."""

    prepaid: int
    epochs_left: int
    refresh_cost: int
    """Cost of a commit of a file of this size now, after crediting what is left."""
    holders: list[str]


@dataclass(frozen=True)
class Model:
    """A model."""

    id: int
    name: str
    owner: str
    commission_bps: int
    next_commission: NextCommission | None
    status: str
    """`registered`, `active`, `inactive`, `retiring` or `retired`."""
    release_epoch: int | None
    stake: int
    leaving: int
    """Stake that is being withdrawn and can still be slashed, in base units."""
    joining: int
    """Added stake that is not active yet but can be slashed, in base units."""
    weights: Weights | None
    next: Weights | None
    """Weights revealed for the architecture to which the network migrates."""
    rent: Rent | None
    commits: list[Commit]
    wins: int
    earned: int


@dataclass(frozen=True)
class Vector:
    """Components of a specialization, at most about 32767 long, or of a target's direction."""

    components: list[int]


@dataclass(frozen=True)
class Age:
    """Age of weights: an earlier epoch, then height, then index is older."""

    epoch: int
    height: int
    index: int


@dataclass(frozen=True)
class Routed:
    """A model routed to a target, with the weights fixed for it."""

    model: int
    weights_hash: str
    size_bytes: int
    ciphertext_hash: str
    key: str
    age: Age


@dataclass(frozen=True)
class Candidate:
    """A submission among the closest to its target."""

    rank: int
    submitter: str
    model: int
    loss_q32: int
    gain_q32: int
    """How much better the model predicts the data than counting does, in 2^-32 nat."""
    distance: int
    size_bytes: int
    commitment: str
    corpus_root: str
    """Root of the submitter's corpus that counted; the data is one of its documents."""
    corpus_leaves: int
    bond: int


@dataclass(frozen=True)
class Publication:
    """Data published for a target."""

    rank: int
    data_hash: str
    size_bytes: int


@dataclass(frozen=True)
class Payment:
    """Who won a target, and the payments in base units."""

    submitter: str
    paid_submitter: int
    model: int
    paid_model: int
    distance: int
    data_hash: str


@dataclass(frozen=True)
class Target:
    """A direction, the models routed to it, the closest submissions, and the outcome."""

    id: int
    epoch: int
    status: str
    """`open`, `published`, `settled` or `returned`."""
    returned: str | None
    reward: int
    seed: str
    loss_margin_q32: int
    """The margin by which claims are made and judged, in 2^-32 nat."""
    gain_min_q32: int
    """The least gain of a claim, in 2^-32 nat; 0 if there is none."""
    routed: list[Routed]
    candidates: list[Candidate]
    publication: Publication | None
    payment: Payment | None


@dataclass(frozen=True)
class Epoch:
    """An epoch and its targets."""

    epoch: int
    beacon: str | None
    targets: list[int]
    target_reward: int
    loss_margin_q32: int | None
    gain_min_q32: int | None


@dataclass(frozen=True)
class StakeChange:
    """What becomes active and what is paid out as an epoch begins, in base units."""

    epoch: int
    joining: int
    leaving: int


@dataclass(frozen=True)
class Stake:
    """An account's stake in one model or validator, in base units."""

    pool: str
    stake: int
    leaving: int
    joining: int
    changes: list[StakeChange] | None
    pool_stake: int
    commission_bps: int


@dataclass(frozen=True)
class Validator:
    """A validator; amounts in base units."""

    address: str
    consensus_key: str
    next_key: str | None
    duty_key: str | None
    """The key that may send its duties, besides its account's."""
    p2p: str | None
    """Where other nodes connect to its node, as it says."""
    url: str | None
    """The URL of its node's API, as it says."""
    status: str
    """`ready`, `jailed`, `leaving`, `left` or `expelled`."""
    jailed_until: int | None
    seat: int | None
    seat_stake: int | None
    """What its seat counts in this epoch."""
    stake: int
    leaving: int
    joining: int
    commission_bps: int
    next_commission: NextCommission | None
    missed: int
    rent_price: int | None


@dataclass(frozen=True)
class Proposal:
    """A proposal to change the rules; passes if more than two thirds of `total` approve."""

    id: int
    proposer: str
    change: dict
    """`change` is `parameter`, `architecture` or `rules`, with its fields beside it."""
    status: str
    """`open`, `passed` or `lapsed`."""
    ends_epoch: int
    decided_epoch: int | None
    approved: int
    total: int
    deposit: int


@dataclass(frozen=True)
class Migration:
    """A migration to another architecture."""

    number: int
    architecture: dict
    ends_epoch: int
    ready: list[int]
    needed: int


@dataclass(frozen=True)
class Governance:
    """What validators decide by vote; the rent price of one MiB for one epoch in base units."""

    architecture: int
    rent_price: int
    files_bytes: int
    """Bytes of the files of all models, in use and committed."""
    seat_to_take: int
    """The stake with which a validator would get a seat now."""
    seat_to_keep: int
    migration: Migration | None
    rules: int
    """The version of the rules in force."""
    next_rules: NextRules | None
    """The version that is scheduled."""
    proposals: list[Proposal]
    """The last ones, by id."""
    next: str | None


@dataclass(frozen=True)
class Block:
    """A finalized block."""

    height: int
    hash: str
    parent: str
    timestamp_ms: int
    proposer: str
    state_root: str
    transactions: list[str]


@dataclass(frozen=True)
class Rejection:
    """Why the rules rejected a transaction; `code` is one of `soma.codes.Code`."""

    code: str
    message: str
    help: str


@dataclass(frozen=True)
class Receipt:
    """The outcome of a finalized transaction; `fee` in base units."""

    fee: int
    rejection: Rejection | None


@dataclass(frozen=True)
class Transaction:
    """A transaction and its outcome."""

    hash: str
    state: str
    """`pending` or `final`."""
    sender: str
    nonce: int
    tip: int
    action: str
    valid_until_ms: int
    height: int | None
    receipt: Receipt | None


@dataclass(frozen=True)
class Submitted:
    """The answer to a transaction that the pool accepted."""

    hash: str


def decode(kind: object, value: object) -> object:
    """Converts `value`, parsed from JSON, to `kind`. Raises `ValueError` if it does not fit."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return None if value is None else decode(arguments[0], value)
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        return [decode(arguments[0], entry) for entry in value]
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is not a {kind.__name__}")
        hints = _hints(kind)
        return kind(
            **{
                field.name: decode(hints[field.name], value.get(field.name))
                for field in fields(kind)
            }
        )
    if kind is int and isinstance(value, str):
        return int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value


@cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)
