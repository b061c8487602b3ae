// The pages that have no number or name, and the words that lead to them.

interface Place {
    path: string;
    name: string;
    words: string[];
}

/** Those to which every page leads. */
export const PLACES: Place[] = [
    { path: "/models", name: "Models", words: ["models", "leaderboard"] },
    { path: "/targets", name: "Targets", words: ["targets", "submissions"] },
    { path: "/blocks", name: "Blocks", words: ["blocks", "transactions"] },
    { path: "/validators", name: "Validators", words: ["validators", "committee", "seats"] },
    { path: "/runs", name: "Runs", words: ["runs", "training", "curves", "logs"] },
    { path: "/params", name: "Parameters", words: ["parameters"] },
    { path: "/governance", name: "Proposals", words: ["proposals", "governance", "votes"] },
];

/** Where data is tried, if it is. */
export const TRIAL: Place = { path: "/trial", name: "Try it", words: ["try", "trial"] };

/** What the search finds. */
export const FOUND: Place[] = [
    ...PLACES,
    { path: "/architecture", name: "Architecture", words: ["architecture"] },
    { path: "/genesis", name: "Genesis", words: ["genesis", "chain"] },
    { path: "/status", name: "Status", words: ["status", "supply", "node"] },
];
