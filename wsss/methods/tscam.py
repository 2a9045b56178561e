"""TS-CAM (Gao et al., ICCV 2021): CRT's transformer for localization, which learns alone."""

from wsss.methods.crt_localization import Localization

METHOD = Localization
