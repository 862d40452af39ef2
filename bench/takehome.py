"""The usual take-home, as a baseline: FastAPI, synchronous SQLAlchemy, `shutil.copyfileobj`, SQLite as it comes.

Written as such answers are written, globals and all, and fairly: it has the indexes that its queries want. It has no
fsync of files, no event, no e-mail and no second process. `uvicorn bench.takehome:app` serves it from the folder that
`TAKEHOME_FOLDER` names; `TAKEHOME_USER`, `TAKEHOME_PASSWORD` and `TAKEHOME_SECRET` say who signs in, and the key.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pwdlib import PasswordHash
from pydantic import BaseModel, ConfigDict, EmailStr
from sqlalchemy import Index, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

FOLDER = Path(os.environ["TAKEHOME_FOLDER"])
UPLOADS = FOLDER / "uploads"
UPLOADS.mkdir(exist_ok=True)
SECRET = os.environ["TAKEHOME_SECRET"]
engine = create_engine(f"sqlite:///{FOLDER / 'leads.db'}", connect_args={"check_same_thread": False})
SessionLocal = sessionmaker(bind=engine)
hasher = PasswordHash.recommended()
oauth2 = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    email: Mapped[str] = mapped_column(primary_key=True)
    password_hash: Mapped[str]


class Lead(Base):
    __tablename__ = "leads"
    __table_args__ = (Index("ix_leads_state_created_at", "state", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: str(uuid.uuid4()))
    first_name: Mapped[str]
    last_name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True, index=True)
    resume_path: Mapped[str]
    state: Mapped[str] = mapped_column(default="PENDING")
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


class LeadOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: str
    first_name: str
    last_name: str
    email: EmailStr
    resume_path: str
    state: str
    created_at: datetime


Base.metadata.create_all(engine)
with SessionLocal() as session:
    user = User(email=os.environ["TAKEHOME_USER"], password_hash=hasher.hash(os.environ["TAKEHOME_PASSWORD"]))
    session.merge(user)
    session.commit()


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


Db = Annotated[Session, Depends(get_db)]


def current_user(token: Annotated[str, Depends(oauth2)], db: Db) -> User:
    try:
        email = jwt.decode(token, SECRET, algorithms=["HS256"])["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Invalid token") from None
    found = db.get(User, email)
    if found is None:
        raise HTTPException(401, "Unknown user")
    return found


@app.post("/login")
def login(form: Annotated[OAuth2PasswordRequestForm, Depends()], db: Db) -> dict[str, str]:
    found = db.get(User, form.username)
    if found is None or not hasher.verify(form.password, found.password_hash):
        raise HTTPException(401, "Wrong user or password")
    claims = {"sub": found.email, "exp": datetime.now(UTC) + timedelta(hours=1)}
    return {"access_token": jwt.encode(claims, SECRET, algorithm="HS256"), "token_type": "bearer"}


@app.post("/leads", status_code=201, response_model=LeadOut)
def create_lead(
    first_name: Annotated[str, Form()],
    last_name: Annotated[str, Form()],
    email: Annotated[EmailStr, Form()],
    resume: UploadFile,
    db: Db,
) -> Lead:
    if db.scalar(select(Lead).where(Lead.email == email)):
        raise HTTPException(400, "Email already exists")
    path = UPLOADS / f"{uuid.uuid4()}_{Path(resume.filename or 'resume').name}"
    with path.open("wb") as target:
        shutil.copyfileobj(resume.file, target)
    lead = Lead(first_name=first_name, last_name=last_name, email=email, resume_path=str(path))
    db.add(lead)
    db.commit()
    db.refresh(lead)
    return lead


@app.get("/leads", response_model=list[LeadOut], dependencies=[Depends(current_user)])
def list_leads(db: Db, state: str | None = None, skip: int = 0, limit: int = 50) -> list[Lead]:
    query = select(Lead).order_by(Lead.created_at.desc()).offset(skip).limit(limit)
    if state:
        query = query.where(Lead.state == state)
    return list(db.scalars(query))


@app.get("/leads/{lead_id}/resume", dependencies=[Depends(current_user)])
def download_resume(lead_id: str, db: Db) -> FileResponse:
    lead = db.get(Lead, lead_id)
    if lead is None:
        raise HTTPException(404, "Lead not found")
    return FileResponse(lead.resume_path, filename="resume.pdf")
