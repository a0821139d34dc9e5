"""What scorers and their sources are asked, how, and what their answers mean: for the hub and for the agents.

What is asked is a Question about one cluster (question.py); what a request and an answer look like is request.py,
document.py and answer.py, all of them pure, as pace.py is (who is asked when). Asking is http.py and program.py, under
the limits of access.py and with the credentials of secrets.py; ask.py puts it together. Nobody here knows of a fleet.
"""
