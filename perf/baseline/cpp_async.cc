// Baseline: libgrpc++'s asynchronous server with protobuf C++: one completion queue, one thread, 16
// calls posted per method, each request parsed and each response serialised. Nothing is stored.
//
// It serves prism.patterns.keyvalue.KeyValuePattern, so the load that drives Prism drives it
// unchanged: Store says success, Retrieve returns a value of 128 bytes.
#include "perf/baseline/baseline.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.grpc.pb.h"

#include <chrono>
#include <functional>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>
#include <thread>

namespace kv = prism::patterns::keyvalue;
using Service = kv::KeyValuePattern::AsyncService;

namespace {

constexpr int kPosted = 16;
constexpr std::size_t kValueBytes = 128;

class Call {
public:
    virtual ~Call() = default;
    virtual void Proceed(bool ok) = 0;
};

// One call of one method: posted, then answered, then deleted; its successor is posted on arrival.
template <class Request, class Response> class Unary final : public Call {
public:
    using Post = void (Service::*)(grpc::ServerContext *, Request *,
                                   grpc::ServerAsyncResponseWriter<Response> *,
                                   grpc::CompletionQueue *, grpc::ServerCompletionQueue *, void *);
    using Answer = void (*)(const Request &, Response *);

    Unary(Service *service, grpc::ServerCompletionQueue *queue, Post post, Answer answer)
        : service_(service), queue_(queue), post_(post), answer_(answer), writer_(&context_)
    {
        (service_->*post_)(&context_, &request_, &writer_, queue_, queue_, this);
    }

    void Proceed(bool ok) override
    {
        if (answered_ || !ok) {
            delete this;
            return;
        }
        new Unary(service_, queue_, post_, answer_);
        Response response;
        answer_(request_, &response);
        answered_ = true;
        writer_.Finish(response, grpc::Status::OK, this);
    }

private:
    Service *service_;
    grpc::ServerCompletionQueue *queue_;
    Post post_;
    Answer answer_;
    grpc::ServerContext context_;
    Request request_;
    grpc::ServerAsyncResponseWriter<Response> writer_;
    bool answered_ = false;
};

void AnswerStore(const kv::StoreRequest &request, kv::StoreResponse *response)
{
    response->set_success(!request.key().empty());
}

void AnswerRetrieve(const kv::RetrieveRequest &request, kv::RetrieveResponse *response)
{
    static const std::string value(kValueBytes, 'v');
    response->set_found(!request.key().empty());
    response->set_value(value);
}

void Serve(grpc::ServerCompletionQueue *queue)
{
    void *tag = nullptr;
    bool ok = false;
    while (queue->Next(&tag, &ok))
        static_cast<Call *>(tag)->Proceed(ok);
}

} // namespace

int main(int argc, char **argv)
{
    sigset_t ending;
    int port = baseline_port(argc, argv);
    int signal_number = 0;

    baseline_block_signals(&ending);
    baseline_switch_off_lock_tracking();
    Service service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port),
                             grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port <= 0) {
        std::fprintf(stderr, "usage: %s [PORT]: cannot listen\n", argv[0]);
        return 1;
    }
    for (int i = 0; i < kPosted; i++) {
        new Unary<kv::StoreRequest, kv::StoreResponse>(&service, queue.get(),
                                                       &Service::RequestStore, AnswerStore);
        new Unary<kv::RetrieveRequest, kv::RetrieveResponse>(
            &service, queue.get(), &Service::RequestRetrieve, AnswerRetrieve);
    }
    std::thread thread(Serve, queue.get());
    baseline_announce(port);

    sigwait(&ending, &signal_number);
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    queue->Shutdown();
    thread.join();
    return 0;
}
