"""Floor 1: networks, their views, and the transfer of weights between them."""

from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.cswin_unet import CSwinUNet
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.projected_net import ProjectedNet
from medssl.networks.slice_net import SliceNet
from medssl.networks.slice_unet import SliceUNet
from medssl.networks.split import SplitNetwork, SplitSegResNet
from medssl.networks.split_unet import SplitUNet
from medssl.networks.twin_net import TwinNet
from medssl.networks.view_net import ViewNet
from medssl.networks.views import VIEWS, View, parse_views

__all__ = [
    "VIEWS",
    "CSwinUNet",
    "ChannelDropout",
    "MultiViewNet",
    "ProjectedNet",
    "SliceNet",
    "SliceUNet",
    "SplitNetwork",
    "SplitSegResNet",
    "SplitUNet",
    "TwinNet",
    "View",
    "ViewNet",
    "parse_views",
]
