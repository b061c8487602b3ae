// The answers of the API, from its OpenAPI document: `npm run types`.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Account = Schemas["Account"];
export type ApiError = Schemas["ApiError"];
export type Block = Schemas["Block"];
export type Candidate = Schemas["Candidate"];
export type Clock = Schemas["Clock"];
export type Epoch = Schemas["Epoch"];
export type EpochMap = Schemas["EpochMap"];
export type Governance = Schemas["Governance"];
export type Model = Schemas["Model"];
export type Proposal = Schemas["Proposal"];
export type Stake = Schemas["Stake"];
export type Status = Schemas["Status"];
export type Submission = Schemas["Submission"];
export type Target = Schemas["Target"];
export type Told = Schemas["Told"];
export type Transaction = Schemas["Transaction"];
export type Trial = Schemas["Trial"];
export type Tried = Schemas["Tried"];
export type Validator = Schemas["Validator"];
export type Weights = Schemas["Weights"];
export type Why = Schemas["Why"];

/** A page of a list; the next one begins after `next`. */
export interface Page<T> {
    items: T[];
    next: string | null;
}

/** What a block did; its fields depend on its kind. */
export interface Event {
    cursor: string;
    timestamp_ms: string;
    event: string;
    [field: string]: unknown;
}

/** Parameters, an architecture, a genesis: whatever the rules define. */
export type Facts = Record<string, unknown>;
