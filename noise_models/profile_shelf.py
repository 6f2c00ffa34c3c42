"""Where profiles lie, and which one is a camera's: the user's folder first, then those that ship."""

from __future__ import annotations

import os
import re
from pathlib import Path

from noise_models.base import ProfileError
from noise_models.names import nearest
from noise_models.profile import CameraProfile

SHIPPED = Path(__file__).resolve().parent / "profiles"
"""The profiles that come with the library."""
_COMPANY = re.compile(r"\b(corporation|corp|company|co|ltd|inc|imaging|gmbh|ag|electronics)\b\.?", re.IGNORECASE)


def user_folder() -> Path:
    """Return the user's folder: ``$DENOISE_PROFILES``, or ``denoise/profiles`` in the user's configuration."""
    given = os.environ.get("DENOISE_PROFILES")
    if given:
        return Path(given)
    configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "denoise" / "profiles"


def list_profiles(*, own_only: bool = False) -> list[CameraProfile]:
    """Return every profile there is, or only those in the user's folder; of two with one id only the first.

    Raises
    ------
    ProfileError
        If a file is not a sound profile; the message names it.
    """
    found: dict[str, CameraProfile] = {}
    for folder in (user_folder(),) if own_only else (user_folder(), SHIPPED):
        for path in sorted(folder.glob("*.json")):
            profile = CameraProfile.load(path)
            found.setdefault(profile.id, profile)
    return list(found.values())


def find_profile(make: str, model: str, *, own_only: bool = False) -> CameraProfile | None:
    """Return the profile of a camera, or None: never that of another.

    Parameters
    ----------
    make, model : str
        As a file's metadata say them. Case, blanks, a company's legal form and the make repeated in the model do not
        matter; a profile answers to its model and to its aliases.
    own_only : bool
        Look into the user's folder alone, where profiles of the user's very camera lie.

    Returns
    -------
    CameraProfile or None
        The user's before a shipped one; profiles with a ``variant`` are chosen only by `load_profile`.

    Raises
    ------
    ProfileError
        If a file on the shelf is not a sound profile.
    """
    for profile in list_profiles(own_only=own_only):
        if not profile.variant and answers_to(profile, make, model):
            return profile
    return None


def answers_to(profile: CameraProfile, make: str, model: str) -> bool:
    """Whether a profile is that of a camera, by its model or an alias."""
    names = {_plain_model(profile.make, name) for name in (profile.model, *profile.aliases)}
    return _plain(make) == _plain(profile.make) and _plain_model(make, model) in names


def profile_of(make: str, model: str) -> CameraProfile:
    """Return the profile of a camera.

    Raises
    ------
    ProfileError
        If there is none.
    """
    profile = find_profile(make, model)
    if profile is None:
        known = ", ".join(f"{each.make} {each.model}" for each in list_profiles() if not each.variant)
        raise ProfileError(
            f"There is no noise profile of {make} {model}; there are those of {known or 'no camera'}. "
            "Make one with: denoise calibrate, or pass --noise blind."
        )
    return profile


def load_profile(name: str | os.PathLike[str]) -> CameraProfile:
    """Return the profile that a path or an id names.

    Raises
    ------
    ProfileError
        If there is no such file and no such id; the message names the nearest id.
    """
    path = Path(name)
    if path.suffix == ".json" or path.exists():
        return CameraProfile.load(path)
    profiles = {profile.id: profile for profile in list_profiles()}
    if str(name) not in profiles:
        raise ProfileError(f"There is no file and no profile '{name}'. {nearest(str(name), profiles)}")
    return profiles[str(name)]


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", _COMPANY.sub("", word).lower())


def _plain_model(make: str, model: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", model.lower()).removeprefix(_plain(make))
