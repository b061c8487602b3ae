//! What an outside program needs: API types, client, keys, signing, transfers.
