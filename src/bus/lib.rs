//! Wire types, topics, auth formats and the bus client.
