"""The results as a table in Markdown."""

from collections.abc import Iterator

from bench.goals import GOALS, Goal, Verdict, judge, ratio, value
from bench.results import Results


def table(results: Results) -> str:
    """Figures and ratios of every peer, the verdicts, and what it was measured on."""
    lines = [*_figures(results), "", *_ratios(results), "", *_verdicts(results), "", *_failures(results)]
    return "\n".join([*lines, *circumstances(results)]) + "\n"


def number(amount: float) -> str:
    """Three digits, and thousands apart."""
    if amount >= 100:
        return f"{amount:,.0f}"
    return f"{amount:.3g}" if amount >= 1 else f"{amount:.2g}"


def _measured(results: Results) -> list[Goal]:
    scenarios = {one.scenario for one in results.measured}
    return [goal for goal in GOALS if goal.scenario in scenarios]


def _figures(results: Results) -> Iterator[str]:
    peers = results.peers
    yield "| | " + " | ".join(peers.values()) + " |"
    yield "| --- |" + " ---: |" * len(peers)
    for goal in _measured(results):
        rounds = results.rounds(goal.scenario)
        cells = []
        for peer in peers:
            amount = value(rounds, peer, goal.figure)
            failed = results.failure(goal.scenario, peer) is not None
            cells.append("failed" if failed else "" if amount is None else number(amount))
        yield f"| {goal.title}, {goal.unit} | " + " | ".join(cells) + " |"


def _ratios(results: Results) -> Iterator[str]:
    others = [peer for peer in results.peers if peer not in ("relay", "direct")]
    if "relay" not in results.peers or not others:
        return
    yield "| the relay, as a multiple of | " + " | ".join(results.peers[one] for one in others) + " |"
    yield "| --- |" + " ---: |" * len(others)
    for goal in _measured(results):
        rounds = results.rounds(goal.scenario)
        found = [ratio(rounds, "relay", one, goal.figure) for one in others]
        cells = ["" if one is None else f"{one:.2f}" for one in found]
        yield f"| {goal.title} | " + " | ".join(cells) + " |"


def _verdicts(results: Results) -> Iterator[str]:
    if "relay" not in results.peers:
        return
    yield "| | measured | must | | aim | |"
    yield "| --- | ---: | ---: | --- | ---: | --- |"
    for goal in _measured(results):
        verdicts = judge(goal, results.rounds(goal.scenario))
        for to in dict.fromkeys(one.to for one in verdicts):
            found = {one.step: one for one in verdicts if one.to == to}
            measured = next(iter(found.values())).measured
            name = f"{goal.title}, {f'x {to}' if to else goal.unit}"
            shown = "" if measured is None else number(measured)
            yield f"| {name} | {shown} | {_limit(found.get('must'))} | {_limit(found.get('aim'))} |"


def _limit(verdict: Verdict | None) -> str:
    return " | " if verdict is None else f"{number(verdict.limit)} | {verdict}"


def _failures(results: Results) -> Iterator[str]:
    found = {(one.scenario, one.peer): one.failure for one in results.measured if one.failure}
    for (scenario, peer), reason in found.items():
        yield f"- {results.peers[peer].strip('*')}, {scenario}: {reason}"
    if found:
        yield ""


def circumstances(results: Results) -> Iterator[str]:
    """What it was measured on, and when."""
    machine, rounds = results.machine, results.many
    yield (
        f"Measured on {results.date}: {machine['cores']} cores ({machine['cpu']}), {machine['memory']},"
        f" {machine['system']}; {f'{rounds} rounds, medians' if rounds > 1 else 'one round'}. "
        + ", ".join(f"{name} {text}" for name, text in results.versions.items())
        + "."
    )
