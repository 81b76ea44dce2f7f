"""Text search in records: which of them hold every word of a text.

Owns: where a word is looked for, and how each database is asked. Guarantees: PostgreSQL reads the records once, with
several processes, SQLite at most twice; every other table is asked by itself, not once for each record. Does not:
decide who sees what, or in which order; callers do.
"""

import json
import re
from functools import reduce
from operator import and_, or_

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import BooleanField, F, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Collate, Concat, Upper

from syncportal.remote.models import Resource
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.querysets import Person

MOST_WORDS = 8
MOST_LETTERS = 1_000  # SQLite refuses a pattern of 50,000 bytes
MOST_LISTED = {"postgresql": 10_000, "sqlite": 500}
TELLING = 3
_ASCII = re.compile(r"[\x00-\x7f]*")


def words_of(text: str) -> list[str]:
    """Return the words that are looked for; of an id written as #42 the number, of an endless word its beginning."""
    return [(word.lstrip("#") or word)[:MOST_LETTERS] for word in text.replace("\x00", "").split()[:MOST_WORDS]]


def first_ids(rows: QuerySet[Record], words: list[str], *, user: Person, most: int) -> list[int]:
    """Return the ids of the first `most` rows, in their order, in which every word stands.

    A word may be the id, or stand in title, external id, content, owner, resource or last problem. user: who asks; only
    problems of records that they may see are read.
    """
    found = rows.alias(content_text=Cast("data", TextField())).filter(_holds(words, user=user))
    ids = found.values_list("pk", flat=True)
    if connection.vendor == "sqlite":
        # In order it would look the records up one by one, however few it finds; it keeps only the order of many.
        some = list(ids.order_by()[: most + 1])
        if len(some) <= most:
            return some
    return list(ids[:most])


def _holds(words: list[str], *, user: Person) -> Q:
    problems = _with_problem(words, user=user)
    named = [_elsewhere(word) | problem for word, problem in zip(words, problems, strict=True)]
    if not any(named):
        return _written(words)
    # Few records are named, so nearly all are judged by what is written in them, for all words at once.
    each = [other | _written([word]) for word, other in zip(words, named, strict=True)]
    return _written(words) | reduce(or_, named) & reduce(and_, each)


def _elsewhere(word: str) -> Q:
    """Return which records a word names by number, owner or resource; empty when it names none."""
    found = Q(pk=int(word)) if word.isdecimal() and len(word) < 18 else Q()
    owners = get_user_model().objects.filter(username__icontains=word).values_list("pk", flat=True)
    resources = Resource.objects.order_by().filter(slug__icontains=word).values_list("pk", flat=True)
    for name, holders in (("owner", owners), ("resource", resources)):
        few = list(holders[: _most() + 1])
        if few:
            # "There is one" is said, too: what a missing owner leaves unknown would make PostgreSQL judge all the rest.
            found |= Q(**{f"{name}__isnull": False, f"{name}__in": few if len(few) <= _most() else holders})
    return found


def _with_problem(words: list[str], *, user: Person) -> list[Q]:
    """Return for each word which records have it in their last problem; jobs are read once for all words."""
    each = [Q(detail__icontains=word) for word in words]
    jobs = SyncJob.objects.visible_to(user).exclude(detail="")
    flags = {f"holds_{number}": holds for number, holds in enumerate(each)}
    few = list(jobs.filter(reduce(or_, each)).annotate(**flags).values_list("pk", *flags)[: _most() + 1])
    if len(few) > _most():
        return [Q(pk__in=jobs.filter(holds).values("pk")) for holds in each]
    ids = [[pk for pk, *held in few if held[number]] for number in range(len(words))]
    return [Q(pk__in=some) if some else Q() for some in ids]


def _most() -> int:
    """Return how many ids are listed: with a query in their condition PostgreSQL's processes would not share the
    records, because it takes half of them to match.
    """
    return MOST_LISTED[connection.vendor]


def _written(words: list[str]) -> Q:
    """Return the condition that each word stands in title, external id or content.

    The content is searched as stored text: for a word as typed, and as JSON spells it, which SQLite keeps in ASCII.
    """
    if connection.vendor == "sqlite":
        return reduce(and_, [_in_columns(word, json.dumps(word)[1:-1]) for word in words])
    spelled = {word: json.dumps(word, ensure_ascii=False)[1:-1] for word in words}
    usual = [word for word in words if spelled[word] == word]
    both = [_in_one_text([word]) | _in_one_text([spelled[word]]) for word in words if spelled[word] != word]
    return reduce(and_, both, _in_one_text(usual) if usual else Q())


def _in_columns(word: str, spelled: str) -> Q:
    found = Q(title__icontains=word) | Q(external_id__icontains=word) | Q(content_text__icontains=word)
    return found if spelled == word else found | Q(content_text__icontains=spelled)


def _in_one_text(words: list[str]) -> Q:
    """Return the condition for PostgreSQL, which puts the text of a record together once for all words.

    By "C" it compares ASCII letters only, in two thirds of the time. This is enough for words that have no others, and
    rules nearly every record out where a part of a word has none.
    """
    text = Concat(F("title"), Value("\n"), F("external_id"), Value("\n"), F("content_text"), output_field=TextField())
    plain = [max(_ASCII.findall(word), key=len) for word in words]
    telling = [part for part, word in zip(plain, words, strict=True) if part == word or len(part) >= TELLING]
    found = Q(_contains_all(Collate(text, "C"), telling)) if telling else Q()
    other = [word for part, word in zip(plain, words, strict=True) if part != word]
    return found & Q(_contains_all(text, other)) if other else found


def _contains_all(text: Func, words: list[str]) -> Func:
    patterns = [Upper(Value(f"%{connection.ops.prep_for_like_query(word)}%")) for word in words]
    array = Func(*patterns, template="ARRAY[%(expressions)s]", output_field=TextField())
    return Func(Upper(text), array, template="%(expressions)s)", arg_joiner=" LIKE ALL (", output_field=BooleanField())
