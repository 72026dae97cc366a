"""Bills the example "subscriptions" a second time: plans, in order, one request after the other.

Nothing here is shared with the job. The usage is read as it is published, the rules of the plans are
written again as a loop over the requests of each customer in order of time, and all numbers are
integers: tokens in 10^-12, dollars in 10^-24, as fine as a rounded number can be seen.
"""

import csv
import gzip
from collections import defaultdict
from fractions import Fraction

TOKEN = 10**12
DOLLAR = 10**24
DAY = 86_400_000
WEEK = 7 * DAY
MILLION = 10**6
WEEKS = ("2026-09-01 00:00:00", "2026-09-08 00:00:00", "2026-09-15 00:00:00")

# Which account a customer belongs to; its balance group has the same name.
GROUPS = {
    "m-mid/60": "agency",
    "m-small/17": "agency",
    "m-small/14": "agency",
    "m-small/31": "studio",
    "m-small/27": "garage",
    "m-mid/30": "works",
    "m-mid/80": "mill",
}
ITEMS = ("input_tokens", "output_tokens")
FLAT = {"input_tokens": "0.45", "output_tokens": "1.35"}
# From so many tokens of the group's week on, a million costs so much.
TIERS = (
    (0, {"input_tokens": "0.45", "output_tokens": "1.35"}),
    (4_000_000 * TOKEN, {"input_tokens": "0.40", "output_tokens": "1.20"}),
    (12_000_000 * TOKEN, {"input_tokens": "0.32", "output_tokens": "1.00"}),
)
SEAT, CAP, MINIMUM, PREPAID = Fraction(7), Fraction("0.02"), Fraction("1.20"), Fraction("0.80")
INCLUDED, CARRIED = 650_000 * TOKEN, 50_000 * TOKEN


def ratio(number, divisor):
    """The nearest whole number; of two as near the even one."""
    low, rest = divmod(number, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and low % 2 == 1):
        low += 1
    return low


def rounded(fraction):
    return ratio(fraction.numerator, fraction.denominator)


def cost(tokens, per_million):
    """Prices have two decimals."""
    dollars, cents = per_million.split(".")
    return ratio(tokens * int(dollars + cents) * DOLLAR, 100 * TOKEN * MILLION)


class Bucket:
    """Tokens of an allowance, and when they may be used."""

    def __init__(self, size, start, end):
        self.left, self.start, self.end = size, start, end


class Agency:
    """Plan pro: tokens of every member, drawn by all; tiers of what all have used."""

    def __init__(self, members):
        # The day of the first week that each member comes on.
        self.members = members
        self.weeks = [[], []]
        for first_day in members:
            share = Fraction(7 - first_day, 7)
            size = rounded(INCLUDED * share)
            self.weeks[0].append([Bucket(size, first_day * DAY, WEEK)])
        self.used = [0, 0]
        self.turned = False

    def turn(self):
        """What is left of the first week, up to the cap, is used before the second week's own."""
        self.turned = True
        rests = [Bucket(min(old.left, CARRIED), WEEK, 2 * WEEK) for [old] in self.weeks[0]]
        own = [Bucket(INCLUDED, WEEK, 2 * WEEK) for _ in self.members]
        self.weeks[1] = [rests, own]

    def buckets(self, ms):
        if ms < WEEK:
            # All end together: the one that began first, then any: they are of one size.
            first = sorted((bucket for [bucket] in self.weeks[0]), key=lambda bucket: bucket.start)
            return [bucket for bucket in first if bucket.start <= ms]
        return [bucket for kind in self.weeks[1] for bucket in kind]

    def charge(self, ms, item, quantity, pro):
        if ms >= WEEK and not self.turned:
            self.turn()
        week = ms // WEEK
        parts, at, left = [], self.used[week], quantity
        if not pro:
            parts, left = [(quantity, FLAT[item])], 0
        for tier, (start, prices) in enumerate(TIERS):
            end = TIERS[tier + 1][0] if tier + 1 < len(TIERS) else at + left
            here = min(max(end - at, 0), left)
            if here:
                parts.append((here, prices[item]))
                at, left = at + here, left - here
        self.used[week] += quantity
        return sum(self.net(ms, tokens, price) for tokens, price in parts)

    def net(self, ms, tokens, price):
        amount = cost(tokens, price)
        left, rest = amount, tokens
        for bucket in self.buckets(ms):
            drawn = min(bucket.left, rest)
            if drawn:
                bucket.left -= drawn
                rest -= drawn
                worth = left if rest == 0 else ratio(amount * drawn, tokens)
                left -= min(worth, left)
        return left


class Garage:
    """Plan starter: a cap on the week."""

    def __init__(self):
        self.spent = [0, 0]

    def charge(self, ms, item, quantity, _):
        week = ms // WEEK
        room = rounded(CAP * DOLLAR) - self.spent[week]
        net = min(cost(quantity, FLAT[item]), room)
        self.spent[week] += net
        return net


class Works:
    """Plan enterprise: counts what was spent."""

    def __init__(self):
        self.spent = [0, 0]

    def charge(self, ms, item, quantity, _):
        amount = cost(quantity, FLAT[item])
        self.spent[ms // WEEK] += amount
        return amount


class Mill:
    """Plan prepaid: money of the week, used up first."""

    def __init__(self):
        self.left = [rounded(PREPAID * DOLLAR)] * 2

    def charge(self, ms, item, quantity, _):
        amount, week = cost(quantity, FLAT[item]), ms // WEEK
        drawn = min(amount, self.left[week])
        self.left[week] -= drawn
        return amount - drawn


def decimal(number, one):
    """The exact decimal text of so many parts of one."""
    digits = len(str(one)) - 1
    whole, part = divmod(number, one)
    return f"{whole}.{part:0{digits}d}"


def lines(examples):
    """(account, week, model, "", item, charges, quantity, amount, charges) of every billing line."""
    requests = []
    path = examples / "llm-volume" / "usage" / "requests.csv.gz"
    with gzip.open(path, "rt") as file:
        for row, request in enumerate(csv.DictReader(file)):
            if request["client"] in GROUPS:
                requests.append((int(request["t_ms"]), row, request))
    requests.sort(key=lambda request: request[:2])
    groups = {
        "agency": Agency([0, 0, 3]),
        "studio": Agency([0]),
        "garage": Garage(),
        "works": Works(),
        "mill": Mill(),
    }
    sums = defaultdict(lambda: [0, 0, 0])
    for ms, _, request in requests:
        client = request["client"]
        group = GROUPS[client]
        pro = client != "m-small/14" or ms >= 3 * DAY
        for item in ITEMS:
            quantity = int(request[item]) * TOKEN
            amount = groups[group].charge(ms, item, quantity, pro)
            line = sums[group, ms // WEEK, client.split("/")[0], item]
            line[0] += 1
            line[1] += quantity
            line[2] += amount
    # Fees in advance, of the third week too; the agency's third seat is four sevenths of a week old.
    seats = {"agency": (2 + Fraction(4, 7), 3, 3), "studio": (1, 1, 1)}
    for account, first_second_third in seats.items():
        for week, seat in enumerate(first_second_third):
            count = 3 if account == "agency" else 1
            sums[account, week, "", "seat"] = [count, count * TOKEN, rounded(SEAT * seat * DOLLAR)]
    for week in range(3):
        sums["mill", week, "", "commitment"] = [1, TOKEN, rounded(PREPAID * DOLLAR)]
    # What two whole weeks lack of their minimum.
    for week in range(2):
        lacking = rounded(MINIMUM * DOLLAR) - groups["works"].spent[week]
        if lacking > 0:
            sums["works", week, "", "minimum"] = [1, TOKEN, lacking]
    return [
        (account, WEEKS[week], model, "", item, charges,
         decimal(quantity, TOKEN), decimal(amount, DOLLAR), charges)
        for (account, week, model, item), (charges, quantity, amount) in sums.items()
    ]
