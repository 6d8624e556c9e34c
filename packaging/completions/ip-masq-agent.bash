_ip__masq__agent() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    cmd=""
            opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="ip__masq__agent"
                ;;
            ip__masq__agent,check)
                cmd="ip__masq__agent__subcmd__check"
                ;;
            ip__masq__agent,confirm)
                cmd="ip__masq__agent__subcmd__confirm"
                ;;
            ip__masq__agent,diff)
                cmd="ip__masq__agent__subcmd__diff"
                ;;
            ip__masq__agent,explain)
                cmd="ip__masq__agent__subcmd__explain"
                ;;
            ip__masq__agent,flush)
                cmd="ip__masq__agent__subcmd__flush"
                ;;
            ip__masq__agent,help)
                cmd="ip__masq__agent__subcmd__help"
                ;;
            ip__masq__agent,import)
                cmd="ip__masq__agent__subcmd__import"
                ;;
            ip__masq__agent,last-good)
                cmd="ip__masq__agent__subcmd__last__subcmd__good"
                ;;
            ip__masq__agent,reload)
                cmd="ip__masq__agent__subcmd__reload"
                ;;
            ip__masq__agent,render)
                cmd="ip__masq__agent__subcmd__render"
                ;;
            ip__masq__agent,run)
                cmd="ip__masq__agent__subcmd__run"
                ;;
            ip__masq__agent,status)
                cmd="ip__masq__agent__subcmd__status"
                ;;
            ip__masq__agent,try)
                cmd="ip__masq__agent__subcmd__try"
                ;;
            ip__masq__agent__subcmd__help,check)
                cmd="ip__masq__agent__subcmd__help__subcmd__check"
                ;;
            ip__masq__agent__subcmd__help,confirm)
                cmd="ip__masq__agent__subcmd__help__subcmd__confirm"
                ;;
            ip__masq__agent__subcmd__help,diff)
                cmd="ip__masq__agent__subcmd__help__subcmd__diff"
                ;;
            ip__masq__agent__subcmd__help,explain)
                cmd="ip__masq__agent__subcmd__help__subcmd__explain"
                ;;
            ip__masq__agent__subcmd__help,flush)
                cmd="ip__masq__agent__subcmd__help__subcmd__flush"
                ;;
            ip__masq__agent__subcmd__help,help)
                cmd="ip__masq__agent__subcmd__help__subcmd__help"
                ;;
            ip__masq__agent__subcmd__help,import)
                cmd="ip__masq__agent__subcmd__help__subcmd__import"
                ;;
            ip__masq__agent__subcmd__help,last-good)
                cmd="ip__masq__agent__subcmd__help__subcmd__last__subcmd__good"
                ;;
            ip__masq__agent__subcmd__help,reload)
                cmd="ip__masq__agent__subcmd__help__subcmd__reload"
                ;;
            ip__masq__agent__subcmd__help,render)
                cmd="ip__masq__agent__subcmd__help__subcmd__render"
                ;;
            ip__masq__agent__subcmd__help,run)
                cmd="ip__masq__agent__subcmd__help__subcmd__run"
                ;;
            ip__masq__agent__subcmd__help,status)
                cmd="ip__masq__agent__subcmd__help__subcmd__status"
                ;;
            ip__masq__agent__subcmd__help,try)
                cmd="ip__masq__agent__subcmd__help__subcmd__try"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        ip__masq__agent)
            opts="run check reload try confirm last-good render diff explain import status flush help -h -V --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --expect-foreign --resync-interval --config-watch --backend --masq-chain --jump-position --rule-watch --table-owner --flush-conntrack --manage-sysctl --on-repair --on-stop --help --version"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--expect-foreign|--resync-interval|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec|--manage-sysctl)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --config-watch)
                    COMPREPLY=($(compgen -W "events resync off" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --rule-watch)
                    COMPREPLY=($(compgen -W "events poll" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                --flush-conntrack)
                    COMPREPLY=($(compgen -W "off affected" -- "${cur}"))
                    return 0
                    ;;
                --on-repair)
                    COMPREPLY=($(compgen -W "report forget" -- "${cur}"))
                    return 0
                    ;;
                --on-stop)
                    COMPREPLY=($(compgen -W "cleanup keep" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__check)
            opts="-h --host --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --expect-foreign --resync-interval --config-watch --backend --masq-chain --jump-position --rule-watch --table-owner --flush-conntrack --manage-sysctl --on-repair --on-stop --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--expect-foreign|--resync-interval|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec|--manage-sysctl)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --config-watch)
                    COMPREPLY=($(compgen -W "events resync off" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --rule-watch)
                    COMPREPLY=($(compgen -W "events poll" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                --flush-conntrack)
                    COMPREPLY=($(compgen -W "off affected" -- "${cur}"))
                    return 0
                    ;;
                --on-repair)
                    COMPREPLY=($(compgen -W "report forget" -- "${cur}"))
                    return 0
                    ;;
                --on-stop)
                    COMPREPLY=($(compgen -W "cleanup keep" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__confirm)
            opts="-h --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__diff)
            opts="-h --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --backend --masq-chain --jump-position --table-owner --manage-sysctl --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec|--manage-sysctl)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__explain)
            opts="-h --from --out --in --port --proto --mark --offline --json --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --backend --masq-chain --jump-position --table-owner --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --from|--port|--proto|--mark)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --out|--in|--out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__flush)
            opts="-h --config --config-dir --masq-chain --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help)
            opts="run check reload try confirm last-good render diff explain import status flush help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__check)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__confirm)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__diff)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__explain)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__flush)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__help)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__import)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__last__subcmd__good)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__reload)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__render)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__run)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__status)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__help__subcmd__try)
            opts=""
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 3 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__import)
            opts="-h --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__last__subcmd__good)
            opts="-h --restore --config --config-dir --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__reload)
            opts="-h --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__render)
            opts="-h --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --backend --masq-chain --jump-position --table-owner --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__run)
            opts="-h --once --dry-run --config --config-dir --non-masquerade-cidrs --extra-non-masquerade-cidrs --masquerade-exception-cidrs --out-interfaces --source-cidrs --exclude-source-cidrs --masq-link-local --masq-link-local-ipv6 --masq-multicast --masq-local-source --nomasq-all-reserved-ranges --enable-ipv6 --random-fully --to-ports --snat --egress --port-forwards --mark-masq-bit --external-set-mark-chain --exempt-marks --exempt-ipsec --evaluation --fast-path --cidr-limit --expect-foreign --resync-interval --config-watch --backend --masq-chain --jump-position --rule-watch --table-owner --flush-conntrack --manage-sysctl --on-repair --on-stop --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --config)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --config-dir)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --non-masquerade-cidrs|--extra-non-masquerade-cidrs|--masquerade-exception-cidrs|--source-cidrs|--exclude-source-cidrs|--to-ports|--snat|--egress|--port-forwards|--mark-masq-bit|--external-set-mark-chain|--exempt-marks|--fast-path|--cidr-limit|--expect-foreign|--resync-interval|--masq-chain)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --out-interfaces)
                    COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "${cur}"))
                    return 0
                    ;;
                --masq-link-local|--masq-link-local-ipv6|--masq-multicast|--masq-local-source|--nomasq-all-reserved-ranges|--enable-ipv6|--random-fully|--exempt-ipsec|--manage-sysctl)
                    COMPREPLY=($(compgen -W "true false" -- "${cur}"))
                    return 0
                    ;;
                --evaluation)
                    COMPREPLY=($(compgen -W "ordered longest-prefix" -- "${cur}"))
                    return 0
                    ;;
                --config-watch)
                    COMPREPLY=($(compgen -W "events resync off" -- "${cur}"))
                    return 0
                    ;;
                --backend)
                    COMPREPLY=($(compgen -W "auto nftables iptables iptables-nft iptables-legacy" -- "${cur}"))
                    return 0
                    ;;
                --jump-position)
                    COMPREPLY=($(compgen -W "last first" -- "${cur}"))
                    return 0
                    ;;
                --rule-watch)
                    COMPREPLY=($(compgen -W "events poll" -- "${cur}"))
                    return 0
                    ;;
                --table-owner)
                    COMPREPLY=($(compgen -W "never persist" -- "${cur}"))
                    return 0
                    ;;
                --flush-conntrack)
                    COMPREPLY=($(compgen -W "off affected" -- "${cur}"))
                    return 0
                    ;;
                --on-repair)
                    COMPREPLY=($(compgen -W "report forget" -- "${cur}"))
                    return 0
                    ;;
                --on-stop)
                    COMPREPLY=($(compgen -W "cleanup keep" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__status)
            opts="-h --json --prometheus --nagios --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
        ip__masq__agent__subcmd__try)
            opts="-h --timeout --help"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 2 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
    esac
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _ip__masq__agent -o nosort -o bashdefault -o default ip-masq-agent
else
    complete -F _ip__masq__agent -o bashdefault -o default ip-masq-agent
fi
