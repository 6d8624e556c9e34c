//! Keys of CNI's portmap plugin, which people who come from there will write.

/// What is said of such a key where it is not one of ours.
pub fn refusal(key: &str) -> Option<&'static str> {
    Some(match key {
        "portMappings" => "unknown key; portmap's portMappings are portForwards here",
        "containerPort" => "unknown key; portmap's containerPort is port in an entry of portForwards",
        "hostIp" => "unknown key; portmap's hostIP is hostIP in an entry of portForwards",
        "snat" => {
            "unknown key; portmap's snat: true is hairpin: auto and localhost: true, its snat: false is hairpin: never"
        }
        "masqAll" => "unknown key; portmap's masqAll is hairpin: always in an entry of portForwards",
        "conditionsV4" | "conditionsV6" => {
            "unknown key; for portmap's conditions an entry of portForwards has sourceCIDRs, excludeSourceCIDRs, \
             inInterfaces and hostIP"
        }
        "markMasqBit" | "externalSetMarkChain" => "unknown key; it is one of the top level, for all portForwards",
        _ => return None,
    })
}
