# Completion of prismctl for bash. Installed as share/bash-completion/completions/prismctl, where bash finds it.

_prismctl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local common='--help --version --server --namespace --output --timeout --tls --tls-ca --tls-cert --tls-key
                  --tls-server-name'
    local kv='store retrieve remove exists store-batch retrieve-batch remove-batch scan count expire ttl persist'
    local session='create get set unset rotate extend end end-user list'
    local command='' group='' i

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -s | -n | -o | -t | --server | --namespace | --output | --timeout | --tls-ca | --tls-cert | --tls-key | \
            --tls-server-name | --ttl | --if-version | --value-file | --limit | --page-size | \
            --file | --key | --header | --batch | --group | --from | --idle | --filter | --max-targets | --rate | --when-full | \
            --user | --region | --client | --except | --older-than | --referenced) ((i++)) ;;
        -*) ;;
        kv | deadletters | session | claims)
            if [[ -z $group && -z $command ]]; then group=${COMP_WORDS[i]}; else command=${command:-${COMP_WORDS[i]}}; fi
            ;;
        *) command=${command:-${COMP_WORDS[i]}} ;;
        esac
    done

    case $before in
    --output | -o)
        mapfile -t COMPREPLY < <(compgen -W 'table json' -- "$word")
        return
        ;;
    --from)
        mapfile -t COMPREPLY < <(compgen -W 'committed earliest latest' -- "$word")
        return
        ;;
    --when-full)
        mapfile -t COMPREPLY < <(compgen -W 'drop-oldest drop-newest latest-per-key end-stream' -- "$word")
        return
        ;;
    --value-file | --file | --referenced | --tls-ca | --tls-cert | --tls-key)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --server | -s | --namespace | -n | --timeout | -t | --tls-server-name | --ttl | --if-version | --limit | --page-size | \
        --key | --header | --batch | --group | --idle | --filter | --max-targets | --rate | --user | --region | --client | \
        --except | --older-than)
        return
        ;;
    esac

    if [[ $word == -* ]]; then
        case $command in
        store | put) common+=' --ttl --if-absent --if-version --value-file' ;;
        retrieve | get)
            if [[ $group == session ]]; then common+=' --touch'; else common+=' --with-version'; fi
            ;;
        store-batch | put-batch) common+=' --ttl --atomic' ;;
        remove-batch | delete-batch) common+=' --atomic' ;;
        scan) common+=' --values --limit --page-size' ;;
        check) common+=' --probe' ;;
        publish) common+=' --file --key --header --batch --delimited --atomic' ;;
        register) common+=' --ttl --replace' ;;
        multicast) common+=' --filter --max-targets --rate --dry-run' ;;
        enumerate) common+=' --filter --limit' ;;
        subscribe) common+=' --limit --when-full' ;;
        consume) common+=' --group --from --per-key --keep --idle --limit --delimited' ;;
        list)
            case $group in
            session) common+=' --user --region --client --limit' ;;
            claims) common+=' --older-than --limit' ;;
            *) common+=' --idle --limit --delimited' ;;
            esac
            ;;
        create) common+=' --user --region --client --ttl' ;;
        end-user) common+=' --except' ;;
        redrive) common+=' --limit' ;;
        sweep) common+=' --older-than --referenced --dry-run' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$word")
    elif [[ -z $command && $group == kv ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$kv" -- "$word")
    elif [[ -z $command && $group == session ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$session" -- "$word")
    elif [[ -z $command && $group == deadletters ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'list redrive' -- "$word")
    elif [[ -z $command && $group == claims ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'list sweep' -- "$word")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'caps publish consume deadletters register unregister enumerate identity multicast subscribe session claims check kv help' -- "$word")
    elif [[ $command == check ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -F _prismctl prismctl
