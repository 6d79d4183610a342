# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for qdlctl(1). Verbs and options are what "qdlctl --help" says, names what the service says, so that neither can be out of
# date here.

# A column of a list that the service gives; nothing if it does not answer at once. An empty list is a sentence.
__qdlctl_column() {
    timeout 2 qdlctl --no-pager --no-legend --no-ask-password "$2" 2>/dev/null | awk -v n="$1" '!/^No / && $n != "-" { print $n }'
}
__qdlctl_names() {
    __qdlctl_column 1 "$1"
}
# Kernel names: a port has colons, at which bash breaks words.
__qdlctl_modems() {
    __qdlctl_column 2 list
}

# Verbs (their first words, or the second ones of "firmware" and "backups") and long options.
__qdlctl_verbs() {
    qdlctl --help | sed -n '/^Verbs:/,/^MODEM is/s/^  \([a-z-]\{1,\}\).*/\1/p' | sort -u
}
__qdlctl_second_words() {
    echo list
    qdlctl --help | sed -n "/^Verbs:/,/^MODEM is/s/^  $1 \([a-z]\{1,\}\).*/\1/p"
}
__qdlctl_options() {
    qdlctl "$@" --help 2>/dev/null | grep -o -e '--[a-z-]*' | sort -u
}

_qdlctl() {
    local word=${COMP_WORDS[COMP_CWORD]} verb='' second='' words='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --) return ;;
        -*) ;;
        *) if [ -z "$verb" ]; then verb=${COMP_WORDS[i]}; else second=${second:-${COMP_WORDS[i]}}; fi ;;
        esac
    done
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(__qdlctl_options $verb ${second:+"$second"})" -- "$word")
        return
    fi
    case $verb in
    '') words=$(__qdlctl_verbs) ;;
    firmware | backups)
        if [ -z "$second" ]; then
            words=$(__qdlctl_second_words "$verb")
        else
            case $second in
            import) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
            list) ;;
            *) words=$(__qdlctl_names "$verb") ;;
            esac
        fi
        ;;
    plan | flash) words="$(__qdlctl_modems) $(__qdlctl_names firmware)" ;;
    restore) words="$(__qdlctl_modems) $(__qdlctl_names backups)" ;;
    follow | cancel | log) words=$(__qdlctl_names jobs) ;;
    policy)
        if [ -z "$second" ]; then words=$(__qdlctl_modems); else words="off hold rescue $(__qdlctl_names firmware)"; fi
        ;;
    list | jobs | doctor | monitor) ;;
    *) words=$(__qdlctl_modems) ;;
    esac
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    fi
    case $verb in
    plan | flash | restore) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$word") ;;
    esac
}

complete -o filenames -F _qdlctl qdlctl
