# SPDX-License-Identifier: MIT
"""Logging of the worker: one stream handler on stderr, or what --log-config says.

Job: configure the standard logging package once. The root logger is configured too (at
WARNING), so that an application's own errors are not lost; a configuration that the
application makes later wins, as logging intends.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from typing import Any

from .config import ConfigError

LOGGER_NAME = "asgi_worker"
FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"


def _dict_config(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    if not isinstance(config, dict):
        raise ConfigError(f"--log-config {path}: the file holds no JSON object")
    return config


def configure(level: str, config_file: str | None) -> logging.Logger:
    """Configure logging and return the worker's logger; raises ConfigError."""
    logger = logging.getLogger(LOGGER_NAME)
    if config_file is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(FORMAT))
        root = logging.getLogger()
        if not root.handlers:
            root.addHandler(handler)
        logger.setLevel(level.upper())
        return logger
    try:
        if config_file.endswith(".json"):
            logging.config.dictConfig(_dict_config(config_file))
        else:
            with open(config_file, encoding="utf-8"):
                pass  # fileConfig says nothing useful about a file that cannot be read
            logging.config.fileConfig(config_file, disable_existing_loggers=False)
    except OSError as exc:
        raise ConfigError(f"--log-config {config_file}: {exc.strerror}") from exc
    except ConfigError:
        raise
    except Exception as exc:
        raise ConfigError(f"--log-config {config_file}: {exc}") from exc
    return logger
