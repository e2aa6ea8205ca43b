# SPDX-License-Identifier: Apache-2.0
"""A camera of pictures, video, bag or synthetic road, and the recorder; may know ros, ground and synthetic_road."""
