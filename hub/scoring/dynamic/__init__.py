"""Scorers behind HTTP that speak the Dynamic Scoring Framework's protocol, as far as it needs no network.

What a scorer and its policy say (spec.py, document.py, policy.py, data.py, plan.py), what is told to who asks in a
cluster (summary.py), and what becomes of scores (values.py, published.py, settling.py). What is asked and what an
answer means is hub/asking, for agents too; the hub's own asking is hub/controllers/scorer_*.py.
"""
