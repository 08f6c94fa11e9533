"""The ledger in a program: each benchmark is a function from a Bench to what it measured; `suite` lists them."""
