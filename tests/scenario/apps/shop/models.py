# SPDX-License-Identifier: MIT
"""What the shop keeps in its database."""

from typing import ClassVar

from django.db import models


class Article(models.Model):
    name = models.CharField(max_length=50, unique=True)
    stock = models.IntegerField(default=0)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]

    def __str__(self) -> str:
        return self.name
