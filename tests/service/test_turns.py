"""Whose work comes next, over simulated workers."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.service.simulation import run, scaling
from engine.service.turns import PLACES_A_STEP, Asking, Turns


def job(number: int, owner: str, project: str = "", priority: int = 0) -> Asking:
    return Asking(owner, project, f"{owner}-{number}", number, priority)


def worked(ran, until: float, of=lambda one: one.owner) -> Counter:
    """Seconds that workers gave each before that moment."""
    found = Counter()
    for each in ran:
        found[of(each.what)] += max(0.0, min(each.end, until) - each.start)
    return found


def test_five_hundred_jobs_over_eight_workers_starve_nobody():
    source = random.Random(7)
    owners = ["flood"] * 440 + ["ada"] * 30 + ["bob"] * 20 + ["cy"] * 10  # the flood came first
    jobs = [(job(number, owner), source.uniform(1, 10)) for number, owner in enumerate(owners)]
    ran = run(jobs, 8, Turns())
    assert len(ran) == 500 and len({each.what for each in ran}) == 500, "each job once"
    first = {}
    for each in ran:
        first.setdefault(each.what.owner, each.start)
    assert max(first.values()) < 10, "everybody has a worker before the flood has had two rounds"
    end_of = {owner: max(each.end for each in ran if each.what.owner == owner) for owner in set(owners)}
    cost = Counter()
    for one, seconds in jobs:
        cost[one.owner] += seconds
    for owner in ("ada", "bob", "cy"):
        # A quarter of eight workers is two: nobody waits longer than that takes, and a job of each of the others.
        assert end_of[owner] <= cost[owner] / 2 + 20, owner
    assert max(each.end for each in ran) <= sum(cost.values()) / 8 + 10, "no worker idles while somebody waits"


def test_shares_are_kept_to_within_a_job():
    jobs = [(job(number, owner), 2.0) for number, owner in enumerate(["a", "b"] * 100)]
    ran = run(jobs, 4, Turns(share=lambda owner: {"a": 3.0, "b": 1.0}[owner]))
    given = worked(ran, 60.0)
    assert given["a"] / given["b"] == pytest.approx(3.0, rel=0.1)


def test_projects_of_a_user_share_alike():
    jobs = [(job(number, "a", "long" if number < 90 else "short"), 1.0) for number in range(100)]
    ran = run(jobs, 2, Turns())
    given = worked(ran, 10.0, of=lambda one: one.project)
    assert given["short"] == pytest.approx(given["long"], abs=2.0)


def test_who_comes_late_cannot_claim_the_past():
    jobs = [(job(number, "early"), 1.0) for number in range(200)] + [(job(1000 + n, "late"), 1.0) for n in range(100)]
    late = {one.job_id: 50.0 for one, _ in jobs if one.owner == "late"}
    ran = run(jobs, 2, Turns(), late)
    given = Counter(each.what.owner for each in ran if 50.0 <= each.start < 70.0)
    assert given["early"] >= 18, given


def test_a_priority_goes_first_but_not_before_all():
    turns = Turns()
    high = job(PLACES_A_STEP - 1, "a", priority=1)
    assert turns.next([job(0, "a"), high], {}) == high
    later = job(PLACES_A_STEP + 1, "a", priority=1)
    assert turns.next([job(0, "a"), later], {}) == job(0, "a")
    other = job(5000, "b")
    turns.given(job(0, "a"), 1.0)
    assert turns.next([high, other], {}) == other, "a priority is among one's own"


def test_what_has_begun_goes_on_first():
    begun = Asking("a", "", "long", 90, begun=True)
    assert Turns().next([job(0, "a", priority=9), begun], {}) == begun


def test_what_rests_lets_others_of_its_project_go_first_and_takes_its_turn_among_users():
    rests = Asking("a", "", "long", 0, priority=9, rests=True)
    turns = Turns()
    assert turns.next([rests, job(50, "a")], {}) == job(50, "a")
    turns.given(job(1, "b"), 1.0)
    assert turns.next([rests, job(2, "b")], {}) == rests


def test_a_user_has_no_more_workers_than_may_be():
    turns = Turns(most=lambda owner: 2 if owner == "a" else 0)
    jobs = [(job(number, "a"), 1.0) for number in range(20)] + [(job(100 + number, "b"), 1.0) for number in range(3)]
    ran = run(jobs, 8, turns)
    for moment in {each.start for each in ran}:
        assert sum(each.what.owner == "a" and each.start <= moment < each.end for each in ran) <= 2
    assert turns.next([job(0, "a")], {"a": 2}) is None


def test_a_schedule_grows_with_its_workers():
    for row in scaling():
        assert row["strips_speedup"] == pytest.approx(row["workers"], rel=0.05)
        assert row["long_strip_speedup"] >= 0.9 * row["workers"], row
