"""Scorers behind HTTP that speak the Dynamic Scoring Framework's protocol, as far as it needs no network.

What a scorer and its policy say (spec.py, document.py, policy.py, plan.py), what is asked and what an answer means
(request.py, answer.py), what becomes of scores (published.py, settling.py), and who is to be asked when (pace.py).
The asking itself is hub/controllers/dynamic_*.py.
"""
