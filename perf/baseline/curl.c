/* Baseline: libcurl's multi interface as its manual recommends it for many transfers: the socket
 * interface on epoll, handles that are used again, a fixed number of them in flight, each on a
 * connection that is kept; signed by libcurl itself (AWS_SIGV4).
 *
 * It reads the objects that prismd has stored for prism-bench's keys. Every answer is checked.
 *
 * usage: prism-baseline-curl URL KEYS KEY_BYTES VALUE_BYTES DEPTH SECONDS
 * URL: what comes before a key. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are in the environment.
 * Standard output: `begin` when measuring begins (see common/begin.h), then
 * `items N seconds S cpu C`. Exit status 1, and the reason on standard error, when any answer was
 * not as it must be. */
#include "perf/baseline/sampled.h"
#include "perf/load/workload.h"

#include <curl/curl.h>
#include <string.h>
#include <sys/epoll.h>

enum { DEPTH_MAX = 256, URL_BYTES = 2048, EVENTS = 64, WAIT_MS = 5000 };

struct load;

struct get {
    struct load *load;
    CURL *easy;
    size_t received;
    char url[URL_BYTES];
};

struct load {
    struct workload workload;
    struct sampled sampled;
    CURLM *multi;
    struct curl_slist *headers;
    const char *base;
    struct get gets[DEPTH_MAX];
    unsigned depth, in_flight;
    int epoll_fd;
    long wait_ms;      /* what libcurl's timer wants; -1: none */
    bool more;         /* an answer is followed by the next request */
    const char *fault; /* NULL: none */
};

/* ---- libcurl on epoll ---- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *known)
{
    struct load *load = user;
    struct epoll_event event = {.data.fd = fd};

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(load->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    if ((what & CURL_POLL_IN) != 0)
        event.events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0)
        event.events |= EPOLLOUT;
    if (epoll_ctl(load->epoll_fd, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
        load->fault = "epoll_ctl fails";
    curl_multi_assign(load->multi, fd, load);
    return 0;
}

static int on_timer(CURLM *multi, long wait_ms, void *user)
{
    (void)multi;
    ((struct load *)user)->wait_ms = wait_ms;
    return 0;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *user)
{
    (void)data;
    ((struct get *)user)->received += one * bytes;
    return one * bytes;
}

/* ---- requests ---- */

static void start(struct load *load, struct get *get)
{
    size_t len = strlen(load->base);

    get->received = 0;
    memcpy(get->url, load->base, len);
    workload_write_key(&load->workload, workload_next_key(&load->workload),
                       (uint8_t *)get->url + len);
    get->url[len + load->workload.options.key_bytes] = '\0';
    curl_easy_setopt(get->easy, CURLOPT_URL, get->url);
    if (curl_multi_add_handle(load->multi, get->easy) != CURLM_OK)
        load->fault = "libcurl refused a request";
    load->in_flight++;
}

static void take_answers(struct load *load)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(load->multi, &left)) != NULL) {
        struct get *get;
        long status = 0;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&get);
        curl_easy_getinfo(get->easy, CURLINFO_RESPONSE_CODE, &status);
        if (message->data.result != CURLE_OK)
            load->fault = curl_easy_strerror(message->data.result);
        else if (status != 200 || get->received != load->workload.options.value_bytes)
            load->fault = "an answer is not what it must be";
        curl_multi_remove_handle(load->multi, get->easy);
        load->in_flight--;
        sampled_count(&load->sampled, 1);
        if (load->more && load->fault == NULL)
            start(load, get);
    }
}

static bool step(struct load *load)
{
    struct epoll_event events[EVENTS];
    int running;
    int n = epoll_wait(load->epoll_fd, events, EVENTS,
                       load->wait_ms < 0 || load->wait_ms > WAIT_MS ? WAIT_MS : (int)load->wait_ms);

    if (n == 0) {
        if (load->wait_ms < 0)
            load->fault = "no answer for 5 s";
        curl_multi_socket_action(load->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    for (int i = 0; i < n; i++) {
        int what = (events[i].events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0;

        if ((events[i].events & EPOLLOUT) != 0)
            what |= CURL_CSELECT_OUT;
        if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0)
            what |= CURL_CSELECT_ERR;
        curl_multi_socket_action(load->multi, events[i].data.fd, what, &running);
    }
    take_answers(load);
    return load->fault == NULL;
}

static bool run(struct load *load, double seconds)
{
    sampled_begin(&load->sampled, seconds);
    load->more = true;
    for (unsigned i = 0; i < load->depth; i++)
        start(load, &load->gets[i]);
    while (sampled_goes_on(&load->sampled)) {
        if (!step(load))
            return false;
    }
    sampled_report(&load->sampled);
    load->more = load->sampled.measuring = false;
    while (load->in_flight > 0) {
        if (!step(load))
            return false;
    }
    return true;
}

/* ---- set-up ---- */

static void open_get(struct load *load, struct get *get, const char *login)
{
    get->load = load;
    get->easy = curl_easy_init();
    if (get->easy == NULL)
        abort();
    curl_easy_setopt(get->easy, CURLOPT_PRIVATE, get);
    curl_easy_setopt(get->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(get->easy, CURLOPT_WRITEDATA, get);
    curl_easy_setopt(get->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(get->easy, CURLOPT_AWS_SIGV4, "aws:amz:us-east-1:s3");
    curl_easy_setopt(get->easy, CURLOPT_USERPWD, login);
    curl_easy_setopt(get->easy, CURLOPT_HTTPHEADER, load->headers);
}

static void open_load(struct load *load)
{
    const char *access = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
    char login[256];

    snprintf(login, sizeof login, "%s:%s", access != NULL ? access : "",
             secret != NULL ? secret : "");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->multi = curl_multi_init();
    load->wait_ms = -1;
    if (load->epoll_fd < 0 || load->multi == NULL)
        abort();
    curl_multi_setopt(load->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(load->multi, CURLMOPT_SOCKETDATA, load);
    curl_multi_setopt(load->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(load->multi, CURLMOPT_TIMERDATA, load);
    curl_multi_setopt(load->multi, CURLMOPT_MAXCONNECTS, (long)load->depth);
    load->headers = curl_slist_append(NULL, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    for (unsigned i = 0; i < load->depth; i++)
        open_get(load, &load->gets[i], login);
}

int main(int argc, char **argv)
{
    static struct load load;
    struct workload_options options = workload_defaults();
    const char *bad = argc == 7 ? NULL : "6 arguments are expected";
    bool fine;

    if (bad == NULL) {
        load.base = argv[1];
        options.keys = sampled_number(argv[2]);
        options.key_bytes = sampled_number(argv[3]);
        options.value_bytes = sampled_number(argv[4]);
        load.depth = sampled_number(argv[5]);
        bad = workload_check(&options);
    }
    if (bad == NULL && (load.depth == 0 || load.depth > DEPTH_MAX ||
                        strlen(load.base) + options.key_bytes >= URL_BYTES))
        bad = "depth must be 1 to 256, and an URL has at most 2047 bytes";
    if (bad != NULL) {
        fprintf(stderr, "%s: %s\n", argv[0], bad);
        return 2;
    }
    workload_init(&load.workload, &options, 1);
    open_load(&load);
    fine = run(&load, strtod(argv[6], NULL));
    if (!fine)
        fprintf(stderr, "%s: %s\n", argv[0], load.fault);
    /* What libcurl holds goes with the process. */
    return fine ? 0 : 1;
}
