"""Changes that need the approval of a second person: the policy that requires it, and what allows a change."""
