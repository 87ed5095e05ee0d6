//! tonic: the layer goes into the server's builder.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::{Server, server::Router},
};
use tonic_prost::ProstCodec;
use tower::{
    Service,
    layer::util::{Identity, Stack},
};
use tower_redis_session::{Error, Session, SessionLayer};

/// The session of a call.
fn session<T>(request: &Request<T>) -> Result<Session, Status> {
    let session = request.extensions().get::<Session>().cloned();
    session.ok_or_else(|| Status::internal("not inside the layer"))
}

fn internal(error: Error) -> Status {
    Status::internal(error.to_string())
}

async fn login(request: Request<String>) -> Result<Response<String>, Status> {
    let session = session(&request)?;
    session.destroy();
    session
        .insert("user", request.get_ref())
        .map_err(internal)?;
    Ok(Response::new(String::new()))
}

async fn profile(request: Request<String>) -> Result<Response<String>, Status> {
    let user = session(&request)?.get("user").map_err(internal)?;
    let user = user.ok_or_else(|| Status::permission_denied("no login"))?;
    Ok(Response::new(user))
}

async fn logout(request: Request<String>) -> Result<Response<String>, Status> {
    session(&request)?.destroy();
    Ok(Response::new(String::new()))
}

async fn fail(request: Request<String>) -> Result<Response<String>, Status> {
    session(&request)?
        .insert("user", request.get_ref())
        .map_err(internal)?;
    Err(Status::failed_precondition("as asked"))
}

/// What a build script makes of a `.proto` file, by hand: calls of a string that answer a string.
#[derive(Clone)]
struct Account;

impl NamedService for Account {
    const NAME: &'static str = "Account";
}

impl Service<http::Request<Body>> for Account {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<String, String>::default());
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                "/Account/login" => grpc.unary(tower::service_fn(login), request).await,
                "/Account/profile" => grpc.unary(tower::service_fn(profile), request).await,
                "/Account/logout" => grpc.unary(tower::service_fn(logout), request).await,
                "/Account/fail" => grpc.unary(tower::service_fn(fail), request).await,
                _ => Status::unimplemented(path).into_http(),
            })
        })
    }
}

pub fn server(sessions: SessionLayer) -> Router<Stack<SessionLayer, Identity>> {
    let account = Account;
    Server::builder().layer(sessions).add_service(account)
}
