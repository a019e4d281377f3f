"""ClusterInformation ``default``: which cluster this datastore is, and whether it is ready to be used."""

from __future__ import annotations

from tortie.columns import Column
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind
from tortie.resources.spec import Spec

CLUSTER_INFORMATION = Kind(CALICO, "ClusterInformation")


class ClusterInformationSpec(Spec, frozen=True):
    """ADD and DEL refuse to work while ``datastore_ready`` is False; None is unset and means ready."""

    cluster_guid: str = ""
    cluster_type: str = ""
    calico_version: str = ""
    datastore_ready: bool | None = None
    variant: str = ""
    cnx_version: str = ""


INFO = KindInfo(
    kind=CLUSTER_INFORMATION,
    plural="clusterinformations",
    spec=ClusterInformationSpec,
    aliases=("clusterinfo",),
    columns=(
        NAME,
        Column("CLUSTERGUID", lambda r: r.spec.cluster_guid),
        Column("CLUSTERTYPE", lambda r: r.spec.cluster_type),
        Column("CALICOVERSION", lambda r: r.spec.calico_version),
        Column("DATASTOREREADY", lambda r: r.spec.datastore_ready, wide=True),
    ),
)
