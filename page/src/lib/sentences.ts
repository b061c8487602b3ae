// Events in words. A field in braces is replaced by its value, as a link where it has a page.
import { words } from "./format";

const SENTENCES: Record<string, string> = {
    epoch_began: "A new epoch began: {epoch}",
    phase_began: "Phase {phase} of {epoch} began",
    transferred: "{from} sent {amount} to {to}",
    model_registered: "{owner} registered {model} with a stake of {stake}",
    weights_committed: "{model} committed weights for {epoch}, {size_bytes}, and paid {paid}",
    weights_held: "{validator} holds the file of {model} for {epoch}",
    weights_available: "The file of {model} for {epoch} is held by enough stake",
    commit_lapsed: "The commit of {model} for {epoch} lapsed: {reason}",
    weights_revealed: "{model} revealed weights {weights_hash}",
    challenge_answered: "{validator} showed that it holds the file of {model}",
    rent_price_voted: "{validator} voted for a rent price of {price}",
    rent_price_changed: "The rent price is now {price} for each MiB and epoch",
    model_inactive: "{model} missed its refresh and is inactive",
    model_retired: "{model} was retired; its stake is returned in {release}",
    stake_released: "{owner} got {stake} back from {model}",
    model_slashed: "{model} was slashed by {amount}",
    stake_added: "{staker} added {amount} to the stake of {pool}",
    stake_withdrawn: "{staker} withdraws {amount} from {pool}, paid out in {release}",
    withdrawal_paid: "{staker} got {amount} back from {pool}",
    commission_announced: "{pool} will take a commission of {commission_bps} from {epoch} on",
    commission_changed: "{pool} takes a commission of {commission_bps}",
    proposal_made: "{proposer} made {proposal}; the vote ends in {ends}",
    vote_cast: "{validator} voted on {proposal}: {approve}",
    proposal_passed: "The validators passed {proposal}",
    proposal_lapsed: "The validators did not pass {proposal}; its deposit of {deposit} was burned",
    parameter_changed: "Parameter {name} is now {value}",
    migration_began: "Models may commit for architecture {architecture} until {ends}",
    migration_extended:
        "Too few models are ready for architecture {architecture}: extended until {ends}",
    architecture_switched: "The network switched to architecture {architecture}",
    rules_scheduled: "Blocks follow rules {rules} from {epoch} on",
    rules_cancelled: "Rules {rules} will not come into force",
    rules_changed: "Blocks follow rules {rules} from here on",
    validator_registered: "{validator} was registered as a validator with a stake of {stake}",
    key_announced: "{validator} will change its consensus key",
    key_rotated: "{validator} changed its consensus key",
    validator_leaving: "{validator} gives up its seat",
    validator_returned: "{validator} wants a seat again",
    validator_jailed: "{validator} was absent too long and is jailed until {until}",
    validator_expelled: "{validator} signed conflicting votes: expelled, {amount} burned",
    seat_taken: "{validator} has a seat in {epoch}",
    seat_lost: "{validator} lost its seat in {epoch}",
    validator_unregistered: "{validator} is no longer registered as a validator",
    validator_slashed: "{validator} was slashed by {amount}",
    beacon_committed: "{validator} committed to its part of the beacon of {epoch}",
    beacon_revealed: "{validator} revealed its part of the beacon of {epoch}",
    beacon_drawn: "The beacon of {epoch} was drawn",
    emission_taken:
        "{targets} for targets and {validators} for validators left the reserve for {epoch}",
    target_drawn: "Drawn: {target}, worth {reward}, routed to {models}",
    corpus_committed: "{account} fixed {leaves} documents, which count from {counts} on",
    submission_accepted:
        "{submitter} entered {target} with {model}: rank {rank}, distance {distance}",
    submission_displaced: "A closer submission displaced the one of {submitter} for {target}",
    submission_released: "{submitter} got its bond for {target} back: a closer candidate published",
    submission_forfeited: "{submitter} did not publish for {target} and lost its bond of {bond}",
    data_published: "{submitter} published {size_bytes} for {target}",
    verdict_committed: "{validator} committed to its verdict on {target}",
    verdict_revealed: "{validator} found the claim for {target} {validity}",
    target_decided: "The claim for {target} is {validity}: {agreed} agreed, {disagreed} disagreed",
    model_broken: "The file of {model} is broken; it is now inactive",
    model_closed: "{model} lost all its stake and is retired",
    target_settled: "{model} and {submitter} won {target}: {paid_model} and {paid_submitter}",
    target_returned: "Nobody won {target} ({reason}); {reward} went back to the reserve",
    validator_rewarded: "{validator} earned {amount} in {epoch}",
    rent_paid: "{validator} earned {amount} of rent in {epoch}",
    stake_joined: "{amount} of {staker} joined the stake of {pool}",
    stake_returned: "{amount} went back from {pool} to {staker}",
};

/** Words, or the name of a field whose value stands there. */
export type Piece = { text: string } | { field: string };

/** The sentence of a kind of event; for one that is not known, its name and fields. */
export function sentence(kind: string, fields: string[]): Piece[] {
    const form = SENTENCES[kind];
    if (form === undefined) {
        const rest = fields.flatMap((field): Piece[] => [
            { text: `, ${words(field)} ` },
            { field },
        ]);
        return [{ text: words(kind) }, ...rest];
    }
    return form
        .split(/(\{\w+\})/)
        .filter((part) => part !== "")
        .map((part) => (part.startsWith("{") ? { field: part.slice(1, -1) } : { text: part }));
}
