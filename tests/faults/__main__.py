"""`python -m tests.faults --port 0 --script script.json --record requests.jsonl`: the fault server as a process."""

from tests.faults.server import main

main()
