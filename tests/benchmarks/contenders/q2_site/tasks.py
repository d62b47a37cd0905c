"""The jobs of django-q2."""

import marks


def noop(number):
    marks.begin()


def arrive(sent):
    marks.arrive(sent)
