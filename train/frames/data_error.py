# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set."""


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and what would be right."""
