"""ClusterInformation ``default``: which cluster this datastore is, and whether it is ready to be used."""

from __future__ import annotations

from typing import Any

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
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


def validate(information: Resource[Any]) -> list[InvalidResource]:
    """There is one."""
    found = Findings(information)
    found.one_of("metadata.name", information.key.name, ("default",))
    return found.found


INFO = KindInfo(
    validate=validate,
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
